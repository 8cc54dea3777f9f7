// Package wire is what the driver of the lab and the agent in its guest say to
// each other: one JSON object a line, over one virtio-serial port. The driver asks
// and the agent answers, in any order: the id tells which answer is whose.
//
// The port outlives both ends: after a snapshot has been loaded the guest still
// believes in a conversation that the driver knows nothing of. So ids are never
// used twice, a line that cannot be read is passed over, and the driver passes
// over answers that it did not ask for.
package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Port is the name of the virtio-serial port.
const Port = "lab.cmd"

// Longest is the longest line in bytes, a newline included.
const Longest = 16 << 20

// Request asks the agent for something.
type Request struct {
	ID   int64           `json:"id"`
	Op   string          `json:"op"` // "shell", and what else the agent can
	Args json.RawMessage `json:"args,omitempty"`
}

// Answer is what became of the request with the same ID.
type Answer struct {
	ID  int64           `json:"id"`
	OK  bool            `json:"ok"`
	Out json.RawMessage `json:"out,omitempty"` // what each op says of itself
	Err string          `json:"err,omitempty"` // why, in a sentence, where not OK
}

// Shell is the argument of the op "shell": a script for sh in the guest. Its
// answer's Out is a string, standard output and error together; the answer is not
// OK when it ends with another status than 0 or lasts too long.
type Shell struct {
	Script  string        `json:"script"`
	Timeout time.Duration `json:"timeout"` // 0: a minute
}

// Client is the driver's end. Any number of goroutines may ask at once.
type Client struct {
	to io.ReadWriteCloser

	mu      sync.Mutex // guards what follows, and writing
	last    int64
	waiting map[int64]chan Answer
	gone    error
	done    chan struct{} // closed when the reader has ended
}

// NewClient speaks over a connection until it is closed.
func NewClient(to io.ReadWriteCloser) *Client {
	c := &Client{to: to, last: time.Now().UnixNano(), waiting: map[int64]chan Answer{}, done: make(chan struct{})}
	go c.read()
	return c
}

// Close ends the conversation; whoever waits for an answer gets an error.
func (c *Client) Close() error {
	err := c.to.Close()
	<-c.done
	return err
}

func (c *Client) read() {
	defer close(c.done)
	lines := bufio.NewScanner(c.to)
	lines.Buffer(nil, Longest)
	for lines.Scan() {
		var a Answer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue
		}
		c.mu.Lock()
		if ch := c.waiting[a.ID]; ch != nil {
			delete(c.waiting, a.ID)
			ch <- a
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone = lines.Err(); c.gone == nil {
		c.gone = io.EOF
	}
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		ch <- Answer{ID: id, Err: c.gone.Error()}
	}
}

// Call asks for an op and waits for its answer, no longer than ctx lasts. What the
// op has to say is decoded into out, where that is not nil; also of an op that
// failed, if it says something.
func (c *Client) Call(ctx context.Context, op string, args, out any) error {
	ch, id, err := c.ask(op, args)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	select {
	case a := <-ch:
		if out != nil && len(a.Out) > 0 {
			if err := json.Unmarshal(a.Out, out); err != nil {
				return fmt.Errorf("%s: what it says cannot be read: %w", op, err)
			}
		}
		if !a.OK {
			return fmt.Errorf("%s: %w", op, errors.New(a.Err))
		}
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		return fmt.Errorf("%s: the guest did not answer: %w", op, context.Cause(ctx))
	}
}

func (c *Client) ask(op string, args any) (chan Answer, int64, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return nil, 0, c.gone
	}
	c.last++
	line, err := json.Marshal(Request{ID: c.last, Op: op, Args: raw})
	if err != nil {
		return nil, 0, err
	}
	ch := make(chan Answer, 1)
	c.waiting[c.last] = ch
	// The newline in front ends whatever half a line is still on its way.
	if _, err := c.to.Write(append(append([]byte{'\n'}, line...), '\n')); err != nil {
		delete(c.waiting, c.last)
		return nil, 0, err
	}
	return ch, c.last, nil
}

// Op does what is asked: its answer's Out, or an error. It may return both.
type Op func(ctx context.Context, args json.RawMessage) (any, error)

// Serve is the agent's end: it answers until nothing can be read any more. Each
// request has a goroutine of its own; Serve does not wait for those that are
// still busy, their answers go to the same port.
func Serve(port io.ReadWriter, ops map[string]Op) error {
	var mu sync.Mutex
	lines := bufio.NewScanner(port)
	lines.Buffer(nil, Longest)
	for lines.Scan() {
		var r Request
		if len(lines.Bytes()) == 0 || json.Unmarshal(lines.Bytes(), &r) != nil {
			continue
		}
		go func() {
			line, err := json.Marshal(answer(r, ops))
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			_, _ = port.Write(append(line, '\n')) // nobody to tell
		}()
	}
	return lines.Err()
}

func answer(r Request, ops map[string]Op) Answer {
	op := ops[r.Op]
	if op == nil {
		return Answer{ID: r.ID, Err: "the guest does not know how to " + r.Op}
	}
	out, err := op(context.Background(), r.Args)
	a := Answer{ID: r.ID, OK: err == nil}
	if err != nil {
		a.Err = err.Error()
	}
	if out != nil {
		if a.Out, err = json.Marshal(out); err != nil {
			return Answer{ID: r.ID, Err: err.Error()}
		}
	}
	return a
}
