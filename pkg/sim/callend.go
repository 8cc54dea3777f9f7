package sim

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// An end is one end of a conversation.
type end struct {
	fd    int
	gen   int32 // tells a late word about the one before
	state endState
	mask  uint32
	which int // the server that is called
	// since is when a caller began, and spoke when it last sent what is answered.
	since, spoke time.Time
	got          []byte // of the message that is awaited
	left         int    // of what was said and has not come back
}

type endState uint8

// Callers' ends are in the first of these, servers' in the second.
const (
	nobody     endState = iota
	connecting          // the hello is not sent yet
	greeting            // the answer to it is awaited
	calling             // it is open
	swallowing          // what comes is counted
	leaving             // the caller has hung up

	hearing   // the hello is awaited
	echoing   // what comes is sent back
	streaming // it sends all that can be taken
)

func (s endState) caller() bool { return s >= connecting && s <= leaving }

var (
	// callAnswer is as long as an ordinary ServerHello of TLS 1.3.
	callAnswer = append([]byte{22, 3, 3, 0, 122, 2, 0, 0, 118}, make([]byte, 118)...)
	// wantAll asks a server for all that it has.
	wantAll = []byte{23, 3, 3, 0, 1, 1}
	ping    = append([]byte{23, 3, 3, 0, echoBytes - 5}, make([]byte, echoBytes-5)...)
)

// clientHello is what crypto/tls says first to a server of that name.
func clientHello(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name}).Handshake()
		client.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	hello := append(head, make([]byte, binary.BigEndian.Uint16(head[3:]))...)
	_, err := io.ReadFull(server, hello[5:])
	return hello, err
}

// watch lets the epoll tell of a new descriptor.
func (c *Callers) watch(fd int, mask uint32) error {
	for fd >= len(c.ends) {
		c.ends = append(c.ends, end{})
	}
	c.ends[fd].fd, c.ends[fd].mask = fd, mask
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: mask, Fd: int32(fd), Pad: c.ends[fd].gen})
}

// await changes what the epoll tells of an end.
func (c *Callers) await(e *end, mask uint32) error {
	if e.mask == mask {
		return nil
	}
	e.mask = mask
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, e.fd, &unix.EpollEvent{Events: mask, Fd: int32(e.fd), Pad: e.gen})
}

// drop closes an end.
func (c *Callers) drop(fd int) {
	e := &c.ends[fd]
	e.state = nobody
	e.gen++
	e.got = e.got[:0]
	unix.Close(fd)
}

// over ends a caller's conversation.
func (c *Callers) over(e *end, ok bool) {
	c.drop(e.fd)
	switch {
	case ok:
		c.tally.Done++
	default:
		c.tally.Failed++
	}
	if c.task.ended != nil {
		c.task.ended(ok)
	}
}

// call begins the next conversation: of the device and with the server whose turn
// it is.
func (c *Callers) call() error {
	n := c.next
	c.next++
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("calling: %w", err)
	}
	which := n / len(c.from) % len(c.called)
	began := time.Now()
	err = unix.Bind(fd, &c.from[n%len(c.from)])
	if err == nil {
		err = unix.Connect(fd, &c.called[which].to)
	}
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return fmt.Errorf("calling: %w", err)
	}
	if err := c.watch(fd, unix.EPOLLIN); err != nil {
		return fmt.Errorf("calling: %w", err)
	}
	e := &c.ends[fd]
	e.state, e.which, e.since = connecting, which, began
	return c.greet(e)
}

// greet sends the hello as soon as there is a connection: near as the server is,
// that is often at once.
func (c *Callers) greet(e *end) error {
	now := time.Now()
	n, err := unix.Write(e.fd, c.called[e.which].hello)
	switch {
	case err == unix.EAGAIN:
		return c.await(e, unix.EPOLLIN|unix.EPOLLOUT)
	case err != nil:
		c.over(e, false)
		return nil
	case n < len(c.called[e.which].hello):
		return fmt.Errorf("calling: the kernel took %d bytes of a hello", n)
	}
	e.state, e.spoke = greeting, now
	return c.await(e, unix.EPOLLIN)
}

// say sends a few bytes that shall come back.
func (c *Callers) say(e *end, now time.Time) {
	if n, err := unix.Write(e.fd, ping); err != nil || n < len(ping) {
		c.over(e, false)
		return
	}
	e.spoke, e.left = now, len(ping)
}

// hangUp ends the callers' side of a conversation.
func (c *Callers) hangUp(e *end) {
	_ = unix.Shutdown(e.fd, unix.SHUT_WR)
	e.state = leaving
}

// turn waits a short time for something to happen, and does what there is to do.
func (c *Callers) turn(patience time.Duration) error {
	n, err := unix.EpollWait(c.epoll, c.events[:], int(glance/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for conversations: %w", err)
	}
	for _, ev := range c.events[:max(n, 0)] {
		e := &c.ends[ev.Fd]
		switch {
		case int(ev.Fd) == c.listener:
			err = c.accept()
		case e.gen != ev.Pad || e.state == nobody:
		case e.state.caller():
			err = c.hearServer(e)
		default:
			err = c.hearCaller(e)
		}
		if err != nil {
			return err
		}
	}
	if now := time.Now(); now.Sub(c.looked) > glance*20 {
		c.looked = now
		c.giveUp(now.Add(-patience))
	}
	return nil
}

// giveUp ends conversations that wait since before a time.
func (c *Callers) giveUp(before time.Time) {
	for fd := range c.ends {
		switch e := &c.ends[fd]; e.state {
		case connecting, greeting, leaving:
			if e.since.Before(before) {
				c.over(e, false)
			}
		case calling:
			if e.left > 0 && e.spoke.Before(before) {
				c.over(e, false)
			}
		}
	}
}

// hearServer hears what a caller is told.
func (c *Callers) hearServer(e *end) error {
	switch e.state {
	case connecting:
		return c.greet(e)
	case swallowing: // MSG_TRUNC: counted by the kernel and thrown away (tcp(7))
		n, _, err := unix.Recvfrom(e.fd, c.sink, unix.MSG_TRUNC)
		if err == nil && n > 0 {
			c.bytes += int64(n)
		} else if err != unix.EAGAIN {
			c.over(e, false)
		}
		return nil
	}
	n, err := unix.Read(e.fd, c.buf)
	switch {
	case err == unix.EAGAIN:
	case err != nil || n == 0:
		c.over(e, err == nil && e.state == leaving)
	case e.state == greeting:
		if e.got = append(e.got, c.buf[:n]...); len(e.got) < len(callAnswer) {
			return nil
		}
		if !bytes.Equal(e.got, callAnswer) {
			c.tally.Wrong++
			c.over(e, false)
			return nil
		}
		e.state = calling
		if c.task.answered != nil {
			c.task.answered(e, time.Now())
		}
	case e.state == calling:
		if e.left -= n; e.left == 0 && c.task.echoed != nil {
			c.task.echoed(e, time.Now())
		}
	}
	return nil
}

// hearCaller hears what a server is told.
func (c *Callers) hearCaller(e *end) error {
	if e.state == streaming {
		return c.stream(e)
	}
	n, err := unix.Read(e.fd, c.buf)
	switch {
	case err == unix.EAGAIN:
	case err != nil || n == 0:
		c.drop(e.fd)
	case e.state == hearing:
		if e.got = append(e.got, c.buf[:n]...); len(e.got) < len(c.called[0].hello) {
			return nil
		}
		if !c.isHello(e.got) {
			c.tally.Wrong++
			c.drop(e.fd)
			return nil
		}
		e.state = echoing
		if _, err := unix.Write(e.fd, callAnswer); err != nil {
			c.drop(e.fd)
		}
	case bytes.Equal(c.buf[:n], wantAll):
		e.state = streaming
		return c.await(e, unix.EPOLLIN|unix.EPOLLOUT)
	default:
		if _, err := unix.Write(e.fd, c.buf[:n]); err != nil {
			c.drop(e.fd)
		}
	}
	return nil
}

// isHello reports whether it is one of the hellos that are sent.
func (c *Callers) isHello(b []byte) bool {
	for i := range c.called {
		if bytes.Equal(c.called[i].hello, b) {
			return true
		}
	}
	return false
}

// stream sends as much as the connection takes now.
func (c *Callers) stream(e *end) error {
	var from int64
	if _, err := unix.Sendfile(e.fd, c.endless, &from, gulp); err != nil && err != unix.EAGAIN {
		c.drop(e.fd)
	}
	return nil
}

// accept takes the calls that have arrived at the servers, but for a time only.
func (c *Callers) accept() error {
	for range 16 {
		fd, _, err := unix.Accept4(c.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN, unix.ECONNABORTED, unix.EINTR:
			return nil
		default:
			return fmt.Errorf("taking calls: %w", err)
		}
		if err := c.watch(fd, unix.EPOLLIN); err != nil {
			return err
		}
		c.ends[fd].state = hearing
		if err := c.hearCaller(&c.ends[fd]); err != nil { // it came with its first bytes
			return err
		}
	}
	return nil
}
