package resolver

import (
	"sync"
	"sync/atomic"
)

// maxIdle is how many of a crew stay when there is nothing to do.
const maxIdle = 128

// A crew does jobs, each at once and by itself. Who has done one stays for others,
// if there are not too many idle already: a new goroutine begins with a small stack
// and copies it again and again while it grows, which can cost more than the job.
type crew[J any] struct {
	do   func(J)
	jobs chan J // to those who have nothing to do
	idle atomic.Int32
	all  sync.WaitGroup
}

func newCrew[J any](do func(J)) *crew[J] { return &crew[J]{do: do, jobs: make(chan J)} }

// take gives a job to one of the crew. It does not wait.
func (c *crew[J]) take(j J) {
	select {
	case c.jobs <- j:
	default:
		c.all.Go(func() { c.work(j) })
	}
}

func (c *crew[J]) work(j J) {
	for ok := true; ok; {
		c.do(j)
		if c.idle.Add(1) <= maxIdle {
			j, ok = <-c.jobs
		} else {
			ok = false
		}
		c.idle.Add(-1)
	}
}

// end waits until the last job is done. Nothing may be taken any more.
func (c *crew[J]) end() {
	close(c.jobs)
	c.all.Wait()
}
