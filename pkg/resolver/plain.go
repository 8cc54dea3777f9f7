package resolver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// exactFor is how much longer the right answer is waited for after one that lacks
// the case of the letters and that nobody confirms.
const exactFor = 100 * time.Millisecond

// isPlain reports whether the answer is whole and final as it came.
func (l *letter) isPlain() bool {
	return l.verdict == right && !isTruncated(l.in) && !(isFormatError(l.in) && l.edns)
}

// plainly asks over UDP, and over TCP where UDP does not do. l is a letter that
// is on its way already, or nil.
func (f *forwarder) plainly(ctx context.Context, t target, name string, l *letter) report {
	if l == nil {
		var err error
		if l, err = f.ports.post(t.addr, name, f.health.manners(t, time.Now())); err != nil {
			return report{err: err}
		}
	}
	defer func() { l.end() }()
	if l.verdict == nothing {
		if err := f.await(ctx, l); err != nil {
			return report{err: err}
		}
	}
	if l.verdict == right && isFormatError(l.in) && l.edns { // RFC 6891, 6.2.2
		bare, err := f.ports.post(t.addr, name, manners{noEDNS: true, sameCase: !l.mixed})
		if err != nil {
			return report{err: err}
		}
		l.end()
		l = bare
		if err := f.await(ctx, l); err != nil {
			return report{err: err}
		}
		if l.isPlain() {
			f.health.refusedEDNS(t, time.Now())
		}
	}
	switch {
	case l.verdict == folded:
		return f.unfold(ctx, t, name, l)
	case l.verdict == flooded:
		return f.overTCP(ctx, t, name, l, "so many wrong answers came that somebody may be forging them")
	case isTruncated(l.in):
		return f.overTCP(ctx, t, name, l, "the answer does not fit into UDP")
	}
	a, err := f.understand(name, l.query, l.in)
	if err == nil {
		f.noteManners(t, l)
	}
	return report{a, l.took, err}
}

// await waits for a letter as long as ctx allows.
func (f *forwarder) await(ctx context.Context, l *letter) error {
	until, ok := ctx.Deadline()
	if !ok {
		until = l.sent.Add(budget)
	}
	if err := l.await(ctx, until, f.ignored); err == nil || !isTimeout(err) {
		return err
	}
	return errSilent
}

// noteManners learns from a right answer.
func (f *forwarder) noteManners(t target, l *letter) {
	now := time.Now()
	f.health.sawEDNS(t, l.edns, now)
	if l.mixed {
		f.say(f.health.sawCase(t, true, true, now))
	}
}

// overTCP asks over TCP, for the reason given. The server has been heard of over
// UDP: that it does not do this speaks of the answer and not of its health.
func (f *forwarder) overTCP(ctx context.Context, t target, name string, l *letter, why string) report {
	r, _, err := f.tcp(ctx, t, name, manners{noEDNS: !l.edns})
	if err != nil {
		return report{err: fmt.Errorf("%w: %s, and TCP fails: %w", errAnswer, why, err)}
	}
	r.took = l.took
	return r
}

// tcp asks over TCP, within the time of one try. The report has no time: that of
// the letter says more of the server.
func (f *forwarder) tcp(ctx context.Context, t target, name string, m manners) (report, verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, tryPlain)
	defer cancel()
	reply, v, err := exchangeTCP(ctx, t.addr, name, m)
	if err != nil {
		return report{}, v, err
	}
	a, err := f.weigh(name, reply)
	return report{answer: a, err: err}, v, nil
}

// unfold finds out about an answer that is right but for the case of its letters.
// Some servers do not repeat it; but whoever forges answers from afar has the
// id and the port by chance and the case hardly ever. TCP cannot be forged from
// afar, so it gives the answer, and shows whether this server keeps the case.
// Where there is no TCP, the right answer is waited for a little longer; then the
// question goes out anew without the case, to be answered to another port with
// another id. That a server is like that is believed for good only when it
// happens again and again.
func (f *forwarder) unfold(ctx context.Context, t target, name string, l *letter) report {
	r, v, err := f.tcp(ctx, t, name, manners{noEDNS: !l.edns})
	if err == nil {
		if v == folded {
			f.say(f.health.sawCase(t, false, true, time.Now()))
		}
		r.took = l.took
		return r
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return report{err: ctx.Err()}
	}
	l.verdict = nothing
	if l.await(ctx, time.Now().Add(exactFor), f.ignored) == nil && l.isPlain() {
		a, err := f.understand(name, l.query, l.in)
		return report{a, l.took, err}
	}
	same, err := f.ports.post(t.addr, name, manners{noEDNS: !l.edns, sameCase: true})
	if err != nil {
		return report{err: err}
	}
	defer same.end()
	if err := f.await(ctx, same); err != nil {
		return report{err: err}
	}
	if !same.isPlain() {
		return report{err: fmt.Errorf("%w: it does not repeat the letters of the question as they were", errAnswer)}
	}
	f.say(f.health.sawCase(t, false, false, time.Now()))
	a, err := f.understand(name, same.query, same.in)
	return report{a, same.took, err}
}
