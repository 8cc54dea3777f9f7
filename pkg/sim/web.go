package sim

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// A Web is the HTTPS servers of the cloud, and OCPP without TLS. Each says its own
// name in the header Served-By, so that a client sees whom it really reached.
type Web struct {
	servers []*http.Server
	wg      sync.WaitGroup

	mu     sync.Mutex
	served map[string]int // requests by server
}

// openWeb starts a server on port 443 for each of the HTTPS hosts, and one that
// no charger has any business with.
func openWeb(s *Space, a *Authority) (*Web, error) {
	w := &Web{served: map[string]int{}}
	for addr, names := range map[string][]string{
		OldAPIAddr:  {"*.azurewebsites.net", OldAPI},
		DevicesAddr: {Devices},
		APIAddr:     {API},
		ElsewhereIP: {Elsewhere, "portal.zaptec.com"},
	} {
		cert, err := a.certify(names...)
		if err != nil {
			w.close()
			return nil, err
		}
		l, err := s.listenTCP(addr + ":443")
		if err != nil {
			w.close()
			return nil, err
		}
		own := names[len(names)-1]
		if addr == ElsewhereIP {
			own = Elsewhere
		}
		server := &http.Server{
			Handler:           w.handler(own),
			TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
			ErrorLog:          log.New(io.Discard, "", 0), // a client that breaks off is ordinary here
			ReadHeaderTimeout: 10 * time.Second,
		}
		w.servers = append(w.servers, server)
		w.wg.Go(func() { server.ServeTLS(l, "", "") })
	}
	l, err := s.listenTCP(fmt.Sprintf("%s:%d", OCPPAddr, OCPPPort))
	if err != nil {
		w.close()
		return nil, err
	}
	plain := &http.Server{Handler: w.handler(OCPP), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	w.servers = append(w.servers, plain)
	w.wg.Go(func() { plain.Serve(l) })
	return w, nil
}

func (w *Web) close() {
	for _, s := range w.servers {
		s.Close()
	}
	w.wg.Wait()
}

// Served returns how many requests each host has answered.
func (w *Web) Served(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.served[host]
}

// ServedBy is the header by which a server of the cloud says who it is.
const ServedBy = "Served-By"

// handler answers what a charger asks, and everything else with its name.
func (w *Web) handler(own string) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.served[own]++
		w.mu.Unlock()
		out.Header().Set(ServedBy, own)
		switch {
		case own == API && r.Method == http.MethodPost:
			out.Header().Set("Content-Type", "application/json")
			json.NewEncoder(out).Encode(map[string]string{"DownloadUrl": "https://" + API + "/firmware/zap-go.bin"})
		default:
			fmt.Fprintf(out, "this is %s\n", own)
		}
	})
}
