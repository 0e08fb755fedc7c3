package lifecycle

import (
	"context"
	"sync"
)

// Group owns goroutines: it gives them a context, ends it with a cause, and waits until
// the last of them has returned. Unlike a sync.WaitGroup it may be waited for while
// goroutines are still being added. All methods may be called concurrently.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex    // guards all below
	running int           // goroutines that have not returned
	idle    chan struct{} // closed when running reaches 0; nil when nobody waits
	closed  bool          // no goroutine may be added any more
}

// NewGroup returns a group whose goroutines get a context derived from ctx.
func NewGroup(ctx context.Context) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel}
}

// Context returns the context that the group's goroutines are given.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine of the group. It returns false, and runs nothing, after Cancel.
func (g *Group) Go(f func(context.Context)) bool {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return false
	}
	g.running++
	g.mu.Unlock()
	go func() {
		defer g.done()
		f(g.ctx)
	}()
	return true
}

func (g *Group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Cancel ends the group's context with a cause and refuses further goroutines. Only the
// first call's cause counts.
func (g *Group) Cancel(cause error) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(cause)
}

// Cause returns why the group's context ended, nil while it has not.
func (g *Group) Cause() error { return context.Cause(g.ctx) }

// Wait returns when no goroutine of the group runs. It does not end them: call Cancel first.
func (g *Group) Wait() {
	g.mu.Lock()
	if g.running == 0 {
		g.mu.Unlock()
		return
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	<-idle
}
