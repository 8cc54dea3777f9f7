package resolver

import "errors"

const (
	// takeOver makes a change of the configuration count.
	takeOver      = "sudo systemctl restart chargegate-prepare."
	anotherServer = "another server as upstreams under [dns], then: " + takeOver
)

// advice is what to do about a server that fails in this way.
func advice(t target, c *condition) string {
	var bad *badCertificate
	switch {
	case errors.As(c.err, &bad):
		return bad.do
	case errors.Is(c.err, errAnswer):
		return "Restart the router, or write " + anotherServer
	case t.tlsName != "":
		return "Outgoing TCP port 853 must be open in the site's firewall and router, for this box. Or write " + anotherServer
	}
	return "Does the router answer, and does the site's firewall let DNS out (UDP and TCP port 53)? Whom this box asks: cat /etc/resolv.conf. Or write " + anotherServer
}
