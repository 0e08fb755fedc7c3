package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// reset is a caller of Reset that waits for older generations to be gone.
type reset struct {
	generation uint64
	done       chan struct{}
}

// Reset replaces all workers, one after the other: each is drained only when its successor
// is ready, so that no lease is refused or cut short. It returns when no older worker is
// left. When ctx ends first, it returns canceled or deadline_exceeded with the last failure
// of a start, and the replacing goes on. Other errors: closed.
func (p *Pool[W]) Reset(ctx context.Context) error {
	p.mu.Lock()
	if p.phase != running {
		p.mu.Unlock()
		return p.notRunning()
	}
	p.generation++
	r := reset{generation: p.generation, done: make(chan struct{})}
	p.resets = append(p.resets, r)
	p.counters.Resets++
	p.event(Event{Kind: Resetting, Generation: p.generation, Size: len(p.ready)})
	p.settle(time.Now())
	p.mu.Unlock()

	err := p.await(ctx, r.done, "reset", func() string {
		text := fmt.Sprintf("%d older workers were not yet replaced", p.older(r.generation))
		if p.lastError != nil {
			text += "; the last failure: " + p.lastError.Error()
		}
		return text
	})
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range p.resets {
			if p.resets[i].done == r.done {
				p.resets = append(p.resets[:i], p.resets[i+1:]...)
				break
			}
		}
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == closing { // the older workers are gone, but nothing replaced them
		return status.New(status.Closed, "reset", "the pool is closed")
	}
	return nil
}

// stale reports whether a ready member is to be replaced. The caller holds mu.
func (p *Pool[W]) stale(m *member[W]) bool { return m.generation < p.generation || m.worn != "" }

// roll starts the successor of one stale member; the next one's turn comes when that is
// ready, so that never more than one worker is up in addition. Overflow workers just go.
// The caller holds mu.
func (p *Pool[W]) roll(now time.Time) {
	var next *seat[W]
	for _, s := range p.seats {
		m := s.member
		switch {
		case m == nil || (!s.starting && !p.stale(m)):
		case s.starting:
			return
		case s.overflow:
			p.replace(m)
			p.unwant(s)
		case next == nil:
			next = s
		}
	}
	if next != nil {
		p.startIn(next, now)
	}
}

// older counts what is left of earlier generations. The caller holds mu.
func (p *Pool[W]) older(generation uint64) int {
	n := 0
	for _, s := range p.seats {
		if s.starting && s.startGeneration < generation {
			n++
		}
	}
	for _, m := range p.ready {
		if m.generation < generation {
			n++
		}
	}
	for m := range p.leaving {
		if m.state != gone && m.generation < generation {
			n++
		}
	}
	return n
}

// finishResets tells the callers of Reset whose older generations are gone. The caller
// holds mu.
func (p *Pool[W]) finishResets() {
	kept := p.resets[:0]
	for _, r := range p.resets {
		if p.older(r.generation) == 0 {
			close(r.done)
		} else {
			kept = append(kept, r)
		}
	}
	p.resets = kept
}
