package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/event"
)

// The endpoints, for the metrics and for whoever asks for another one.
var endpoints = [...]string{"/v1/status", "/v1/chargers", "/v1/charger/", "/v1/events", "/v1/doctor", "other"}

// An ask answers one question with something to be written as JSON. A *fault
// as error is told to whoever asked; nil, nil means that it has been answered.
type ask func(w http.ResponseWriter, r *http.Request) (any, error)

// fault is a Fault as an error.
type fault struct{ told Fault }

func (f *fault) Error() string { return f.told.Error }

func wrong(code int, right, format string, args ...any) error {
	return &fault{Fault{Code: code, Error: fmt.Sprintf(format, args...), Right: right}}
}

// routes is what may be asked on the unix socket.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for i, f := range []ask{s.askStatus, s.askChargers, s.askCharger, s.askEvents, s.askDoctor, askOther} {
		pattern := endpoints[i]
		switch pattern {
		case "/v1/charger/":
			pattern += "{who...}"
		case "other":
			pattern = "/"
		}
		mux.Handle(pattern, s.answer(i, f))
	}
	return mux
}

// answer writes what an ask returns. A panic of ours ends one answer, not the
// room.
func (s *Server) answer(endpoint int, f ask) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		defer s.asked.Done()
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.answers.refused[endpoint].Add(1)
				s.log.Say(event.PanicRecovered, event.F("SERVICE", "status"), event.F("ERROR", p), event.F("STACK", string(debug.Stack())))
				panic(http.ErrAbortHandler) // nothing true can be written any more
			}
		}()
		body, err := any(nil), error(nil)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			err = wrong(http.StatusMethodNotAllowed, "ask with GET; nothing can be changed here", "%s is not answered", r.Method)
		} else {
			body, err = f(w, r)
		}
		if err != nil {
			s.answers.refused[endpoint].Add(1)
			told := Fault{Code: http.StatusInternalServerError, Error: err.Error()}
			if f := (*fault)(nil); errors.As(err, &f) {
				told = f.told
			}
			write(w, told.Code, told)
			return
		}
		s.answers.given[endpoint].Add(1)
		if body != nil {
			write(w, http.StatusOK, body)
		}
	})
}

func write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(body) // whoever asked may have gone
}

func (s *Server) askStatus(_ http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := parameters(r.URL); err != nil {
		return nil, err
	}
	return s.status(time.Now()), nil
}

func (s *Server) askChargers(_ http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := parameters(r.URL); err != nil {
		return nil, err
	}
	st := s.status(time.Now())
	return Chargers{st.Summary, st.Chargers}, nil
}

func (s *Server) askCharger(_ http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := parameters(r.URL); err != nil {
		return nil, err
	}
	now := time.Now()
	c, err := s.meant(r.PathValue("who"), now)
	if err != nil {
		return nil, err
	}
	return s.detail(c, now), nil
}

// meant finds who is asked about, or says who could have been.
func (s *Server) meant(who string, now time.Time) (Charger, error) {
	all := s.dress(s.today(s.src.Book.All(now), now), now)
	if c, ok := find(all, who); ok {
		return c, nil
	}
	const most = 5
	var names []string
	for _, c := range all {
		if len(names) < most && c.Known {
			names = append(names, c.Name)
		}
	}
	right := "give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds"
	if len(names) > 0 {
		right += "; names are like " + strings.Join(names, ", ")
	}
	return Charger{}, wrong(http.StatusNotFound, right, "no charger is called %q", who)
}

func (s *Server) askEvents(_ http.ResponseWriter, r *http.Request) (any, error) {
	v, err := parameters(r.URL, "after", "charger", "level", "limit")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	q := query{level: event.Info, limit: defaultEvents, follow: v.Has("after")}
	if q.follow {
		if q.after, err = strconv.ParseUint(v.Get("after"), 10, 64); err != nil {
			return nil, wrong(http.StatusBadRequest, "give the next of an earlier answer, or 0", "after=%s is not a sequence number", v.Get("after"))
		}
	}
	if v.Has("limit") {
		q.limit, err = strconv.Atoi(v.Get("limit"))
		if err != nil || q.limit < 1 || q.limit > maxEvents {
			return nil, wrong(http.StatusBadRequest, fmt.Sprintf("allowed are 1 to %d", maxEvents), "limit=%s cannot be done", v.Get("limit"))
		}
	}
	if v.Has("level") {
		if err := q.level.UnmarshalText([]byte(v.Get("level"))); err != nil {
			return nil, wrong(http.StatusBadRequest, "allowed are debug, info, warning, error", "there is no level %q", v.Get("level"))
		}
	}
	if v.Has("charger") {
		c, err := s.meant(v.Get("charger"), now)
		if err != nil {
			return nil, err
		}
		q.who = s.src.Book.NameOf(c.MAC)
	}
	return s.events(now, q), nil
}

// askDoctor runs the self-test. One at a time is enough: it dials out.
func (s *Server) askDoctor(w http.ResponseWriter, r *http.Request) (any, error) {
	v, err := parameters(r.URL, "stream")
	if err != nil {
		return nil, err
	}
	select {
	case s.checkers <- struct{}{}:
		defer func() { <-s.checkers }()
	default:
		return nil, wrong(http.StatusTooManyRequests, "try again in half a minute", "a doctor is already at work")
	}
	if v.Get("stream") != "1" {
		return s.doctor(r.Context(), nil), nil
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	lines, flusher := json.NewEncoder(w), http.NewResponseController(w)
	flusher.Flush()
	s.doctor(r.Context(), func(c Check) {
		lines.Encode(c) // whoever asked may have gone
		flusher.Flush()
	})
	return nil, nil
}

func askOther(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, wrong(http.StatusNotFound, "ask for "+strings.Join(endpoints[:len(endpoints)-1], ", "), "there is nothing at %s", r.URL.Path)
}

// parameters reads the query, and refuses what is not in allowed: a parameter
// that is silently passed over gives a wrong answer.
func parameters(u *url.URL, allowed ...string) (url.Values, error) {
	v, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, wrong(http.StatusBadRequest, "write name=value, joined by &", "the query cannot be read: %v", err)
	}
	for key := range v {
		if !slices.Contains(allowed, key) {
			right := "there are no parameters here"
			if len(allowed) > 0 {
				right = "allowed are " + strings.Join(allowed, ", ")
			}
			return nil, wrong(http.StatusBadRequest, right, "there is no parameter %q", key)
		}
	}
	return v, nil
}
