// Package status is the noticeboard: it tells whoever is allowed to ask how the
// house is, and changes nothing.
//
// The tool asks over HTTP and JSON on a unix socket (mode 0660, so the group
// chargegate may ask); Prometheus scrapes on loopback, if it is switched on.
//
//	GET /v1/status                  the whole house, and every charger in short
//	GET /v1/chargers                every charger
//	GET /v1/charger/{who}           one charger, by name, MAC or address, with its last events
//	GET /v1/events                  the last events; after=, charger=, level=, limit=
//	GET /v1/doctor                  a self-test, run now; stream=1 gives each check as it ends
//	GET /metrics                    (on loopback)
//
// The JSON types here are a contract: fields are added, never renamed. What
// went wrong is answered as a Fault, which says what would be right. Secrets
// never come here: the types have no place for one.
//
// The room leaves to others what it shows: main hands it funcs (Sources) and
// the book. It keeps no state but the counts of its own answers.
package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"chargegate/pkg/event"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = doctorTimeout + 10*time.Second
	idleTimeout   = 30 * time.Second
	maxHeader     = 8 << 10
	// goodbye is how long answers under way may take when the room closes.
	goodbye = 2 * time.Second
	// maxAsking bounds open connections on each listener.
	maxAsking = 32
)

// A Server answers questions about the house. It is safe for concurrent use.
type Server struct {
	cfg      Config
	src      Sources
	log      *event.Log
	answers  answers
	checkers chan struct{}  // holds the one doctor that may be at work
	asked    sync.WaitGroup // answers under way

	mu       sync.Mutex
	api      net.Listener
	metrics  net.Listener
	registry *prometheus.Registry
}

// New makes the noticeboard.
func New(cfg Config, src Sources, log *event.Log) *Server {
	if src.Dial == nil {
		src.Dial = (&net.Dialer{}).DialContext
	}
	return &Server{cfg: cfg, src: src, log: log, checkers: make(chan struct{}, 1)}
}

// Name returns "status".
func (s *Server) Name() string { return "status" }

// Listen takes the unix socket and, if metrics are on, their port. A socket
// file that nobody answers on is a leftover and is replaced.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api != nil {
		return nil
	}
	if s.registry == nil && s.cfg.Metrics.IsValid() {
		registry, err := s.register()
		if err != nil {
			return fmt.Errorf("gathering the metrics: %w", err)
		}
		s.registry = registry
	}
	api, err := listenUnix(s.cfg.Socket)
	if err != nil {
		return err
	}
	if s.cfg.Metrics.IsValid() {
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		if s.metrics, err = lc.Listen(context.Background(), "tcp", s.cfg.Metrics.String()); err != nil {
			api.Close()
			return fmt.Errorf("listening for metrics on %s: %w", s.cfg.Metrics, err)
		}
	}
	s.api = api
	return nil
}

// MetricsAddr returns where metrics are given while they are; else the zero
// value.
func (s *Server) MetricsAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.metrics == nil {
		return netip.AddrPort{}
	}
	return s.metrics.Addr().(*net.TCPAddr).AddrPort()
}

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	api, metrics := s.api, s.metrics
	s.mu.Unlock()

	type room struct {
		*http.Server
		at net.Listener
	}
	rooms := []room{{s.httpServer(ctx, s.routes()), api}}
	if metrics != nil {
		rooms = append(rooms, room{s.httpServer(ctx, s.metricsRoutes()), metrics})
	}
	ended := make(chan error, len(rooms))
	for _, r := range rooms {
		go func() { ended <- r.Serve(netutil.LimitListener(r.at, maxAsking)) }()
	}
	left := len(rooms)
	var fate error
	select {
	case <-ctx.Done():
	case fate = <-ended:
		left--
		fate = fmt.Errorf("answering questions: %w", fate)
	}
	var closing sync.WaitGroup
	for _, r := range rooms {
		closing.Go(func() { shut(r.Server) })
	}
	closing.Wait()
	for range left {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) && fate == nil {
			fate = fmt.Errorf("answering questions: %w", err)
		}
	}
	s.asked.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api, s.metrics = nil, nil
	return fate
}

// httpServer makes a server with every bound that there is. Answers under way
// end with ctx, and the server's own complaints become events.
func (s *Server) httpServer(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler:     h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: stdlog.New(sayer{s.log, event.StatusHTTPFault}, "", 0),
	}
}

// shut lets answers under way end, for a moment, and then breaks them off.
func shut(h *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if h.Shutdown(ctx) != nil {
		h.Close()
	}
}

// sayer makes an event of each line that a library would have printed.
type sayer struct {
	log  *event.Log
	kind *event.Kind
}

var _ io.Writer = sayer{}

func (s sayer) Write(line []byte) (int, error) {
	s.log.Say(s.kind, event.F("ERROR", string(line)))
	return len(line), nil
}

// Println implements promhttp.Logger.
func (s sayer) Println(v ...any) { s.log.Say(s.kind, event.F("ERROR", fmt.Sprint(v...))) }

// metricsRoutes is what Prometheus may ask.
func (s *Server) metricsRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: sayer{s.log, event.StatusMetricsFailed}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: readTimeout,
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "The metrics are at /metrics.", http.StatusNotFound)
	})
	return mux
}
