// Package resolver answers names: for the chargers, who may ask for little, and
// for egress, which dials what they may reach.
//
// An allowed name is answered truthfully, with its A records from the cache or
// an upstream, and with the last good ones when no upstream answers (RFC 8767).
// Every name of the NTP pool is answered with the gateway's own address (Z-10).
// Other types of these names are empty at once, all other names do not exist.
// Identical questions are asked once, and nothing that a stranger can send
// makes memory grow without bound.
//
// What it leaves to others: the firewall brings every question here wherever it
// was sent (Z-12); package policy knows which names are allowed; what became of
// an address that was given out is the business of egress.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/limit"
	"chargegate/pkg/policy"
)

// maxQuestions bounds the questions for allowed names that are answered at the
// same time, in all, and maxEach those of one asker. What needs no upstream is
// answered at once and counts for neither, so that no flood of questions keeps
// the others from the time's name, or the watchdog from its sign of life.
const (
	maxQuestions = 512
	maxEach      = 16
)

// A Server answers questions. It is safe for concurrent use.
type Server struct {
	cfg     Config
	list    *policy.List
	book    *charger.Book
	log     *event.Log
	memory  *memory
	given   *given
	toldTo  *toldTo
	forward *forwarder
	waiting *share
	limit   *limit.Limiter // of questions by each device
	scold   *limit.Limiter // of words about those who ask too much
	cookies *cookies
	lately  *lately
	count   counters
	// probeEvery is the time between questions of our own while nobody answers.
	probeEvery time.Duration
	// settleFor is the time between the start and the first refresh.
	settleFor time.Duration
	keeper    *keeper

	mu   sync.Mutex
	held []socket
}

// New makes a resolver for the names that the list holds. Nothing is taken or
// started before Listen and Serve.
func New(cfg Config, list *policy.List, book *charger.Book, log *event.Log) *Server {
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	s := &Server{cfg: cfg, list: list, book: book, log: log, given: newGiven(), keeper: newKeeper(cfg.File),
		limit: limit.New(cfg.Rate, 3*cfg.Rate), scold: limit.New(1, 1), cookies: newCookies(time.Now()), lately: newLately(),
		waiting: newShare(maxQuestions, maxEach), probeEvery: probeEvery, settleFor: settleFor}
	s.forward = newForwarder(cfg, s.asksUs, log, &s.count)
	s.forward.proof = s.proof
	s.memory = newMemory(s.askSafely)
	s.toldTo = newToldTo(book.At, s.memory.isExact)
	return s
}

// Name is what the supervisor and the log call this room.
func (s *Server) Name() string { return "resolver" }

// Serve answers until ctx is done, then closes every socket, waits for all it
// started and returns nil. It takes the sockets itself when Listen was not
// called. Any other end is an error, and Serve may then be called again.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	sockets := s.held
	s.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.forward.open()
	s.memory.open()
	s.memory.follow(exactNames(s.list))
	s.recall()
	ends := make(chan error, 2*len(sockets))
	work := newWorkers(func(j *job) { s.answerUDP(ctx, j) })
	var all sync.WaitGroup
	for _, so := range sockets {
		all.Go(func() { ends <- s.serveUDP(so, work) })
		all.Go(func() { ends <- s.serveTCP(ctx, so.tcp, &all) })
	}
	var probing sync.WaitGroup
	probing.Go(func() { s.probe(ctx) })
	probing.Go(func() { s.refresh(ctx) })
	probing.Go(func() { s.keep(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-ends:
		err = fmt.Errorf("answering names: %w", orUnexpected(err))
	}
	cancel()
	for _, so := range sockets {
		so.close()
	}
	probing.Wait()
	s.memory.shut()
	s.forward.shut()
	all.Wait()
	work.end()
	s.mu.Lock()
	s.held = nil
	s.mu.Unlock()
	return err
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("a listener ended without being asked")
	}
	return err
}
