package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// authorityFile is the root's certificate, as programs read it.
const authorityFile = "ca.pem"

// An Authority certifies the servers of the simulated cloud as the real ones
// are: a root that the chargers know, an intermediate that they do not, and a
// leaf for each server. Its keys live as long as the garage.
type Authority struct {
	// File holds the root's certificate, for programs that want a file.
	File         string
	root         *x509.Certificate
	intermediate *x509.Certificate
	key          *ecdsa.PrivateKey // the intermediate's
}

// newAuthority makes the root and the intermediate and writes the root's
// certificate to dir/ca.pem.
func newAuthority(dir string) (*Authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := template("Garage Global Root G2")
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	root, err = sign(root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	between := template("Garage Azure TLS Issuing CA 07")
	between.IsCA, between.KeyUsage = true, x509.KeyUsageCertSign
	between, err = sign(between, root, &key.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	a := &Authority{File: filepath.Join(dir, authorityFile), root: root, intermediate: between, key: key}
	return a, os.WriteFile(a.File, pemOf("CERTIFICATE", root.Raw), 0o644)
}

// Pool holds the root, for Go's clients.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// certify makes the certificate of a server with these names. The chain carries
// the intermediate, as TLS wants it (RFC 8446, 4.4.2).
func (a *Authority) certify(names ...string) (tls.Certificate, error) {
	return a.certifyBetween(yesterday(), inYears(), names...)
}

// certifyBetween is certify for a certificate that is valid between two moments.
func (a *Authority) certifyBetween(from, until time.Time, names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := template(names[0])
	leaf.DNSNames, leaf.NotBefore, leaf.NotAfter = names, from, until
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf, err = sign(leaf, a.intermediate, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.intermediate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Pair certifies a server and returns the files of its chain and its key, for a
// program that serves in the cloud.
func (a *Authority) Pair(name string) (chain, key string, err error) {
	cert, err := a.certify(name)
	if err != nil {
		return "", "", err
	}
	chain, key = filepath.Join(filepath.Dir(a.File), name+".pem"), filepath.Join(filepath.Dir(a.File), name+".key")
	return chain, key, writePair(cert, chain, key)
}

// writePair writes a certificate's chain and key for programs that want files.
func writePair(cert tls.Certificate, chainFile, keyFile string) error {
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pemOf("CERTIFICATE", der)...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(chainFile, chain, 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyFile, pemOf("PRIVATE KEY", key), 0o600)
}

// Certificates are valid from yesterday on, so that a clock a little behind does
// no harm.
func yesterday() time.Time { return time.Now().Add(-24 * time.Hour) }

// inYears is late enough for a guest whose clock begins before its time.
func inYears() time.Time { return time.Now().AddDate(10, 0, 0) }

// template is what all certificates share.
func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil { // crypto/rand does not fail
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Garage"}},
		NotBefore: yesterday(), NotAfter: inYears(),
		BasicConstraintsValid: true,
	}
}

func sign(cert, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("certifying %s: %w", cert.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
