package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// farm starts fake workers and holds them to account.
type farm struct {
	mu      sync.Mutex
	delay   time.Duration // of a start
	broken  error         // what starts fail with
	stuck   time.Duration // how long a worker takes to stop when it is not killed
	doomed  bool          // workers die as soon as they have started
	workers map[string]*fake
	started int
	events  []Event
	// unmeasurable is what a look at a worker's memory fails with.
	unmeasurable error
	looked       int
}

func newFarm() *farm { return &farm{workers: make(map[string]*fake)} }

// fake is a worker without anything behind it.
type fake struct {
	farm *farm
	info StartInfo
	done chan struct{}
	once sync.Once
	err  error
	// bytes is how much memory it uses; guarded by the farm's mu.
	bytes int64
	// killed is true when Stop had to end it by force.
	killed bool
}

func (f *fake) ID() string            { return f.info.ID }
func (f *fake) Done() <-chan struct{} { return f.done }

func (f *fake) Err() error {
	f.farm.mu.Lock()
	defer f.farm.mu.Unlock()
	return f.err
}

func (f *fake) Stop(ctx context.Context) error {
	f.farm.mu.Lock()
	stuck := f.farm.stuck
	f.farm.mu.Unlock()
	timer := time.NewTimer(stuck)
	defer timer.Stop()
	killed := false
	if stuck > 0 {
		select {
		case <-timer.C:
		case <-ctx.Done():
			killed = true
		case <-f.done:
		}
	} else if ctx.Err() != nil {
		killed = true
	}
	f.end(nil, killed)
	return nil
}

func (f *fake) end(err error, killed bool) {
	f.once.Do(func() {
		f.farm.mu.Lock()
		f.err, f.killed = err, killed
		f.farm.mu.Unlock()
		close(f.done)
	})
}

func (f *fake) alive() bool {
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

var errKilled = status.New(status.WorkerLost, "run", "killed by signal 9")

// die is what kill -9 does.
func (f *fake) die() { f.end(errKilled, false) }

func (f *farm) start(ctx context.Context, info StartInfo) (*fake, error) {
	f.mu.Lock()
	delay, broken, doomed := f.delay, f.broken, f.doomed
	f.started++
	f.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if broken != nil {
		return nil, broken
	}
	w := &fake{farm: f, info: info, done: make(chan struct{})}
	f.mu.Lock()
	f.workers[info.ID] = w
	f.mu.Unlock()
	if doomed {
		w.die()
	}
	return w, nil
}

func (f *farm) set(change func(*farm)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *farm) memory(w *fake) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked++
	return w.bytes, f.unmeasurable
}

func (f *farm) looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looked
}

func (f *farm) starts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started
}

func (f *farm) living() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, w := range f.workers {
		if w.alive() {
			n++
		}
	}
	return n
}

func (f *farm) onEvent(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// kinds returns the events of the given kinds, in order.
func (f *farm) kinds(kinds ...EventKind) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Event
	for _, e := range f.events {
		for _, k := range kinds {
			if e.Kind == k {
				out = append(out, e)
			}
		}
	}
	return out
}

// sized is the configuration of most tests: fixed size, one slot, room to queue.
func (f *farm) sized(workers, slots int) Config[*fake] {
	return Config[*fake]{
		Min: workers, Max: workers, Slots: slots, Queue: 16, GrowAfter: 10 * time.Millisecond,
		Start: f.start, OnEvent: f.onEvent,
	}
}

func build(t testing.TB, cfg Config[*fake]) *Pool[*fake] {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open returns a started pool that is stopped, and found empty, at the end of the test.
func open(t testing.TB, f *farm, cfg Config[*fake]) *Pool[*fake] {
	t.Helper()
	p := build(t, cfg)
	t.Cleanup(func() {
		if err := p.Stop(t.Context()); err != nil && status.CodeOf(err) != status.DeadlineExceeded {
			t.Errorf("Stop: %v", err)
		}
		if n := f.living(); n != 0 {
			t.Errorf("%d workers live after Stop", n)
		}
		sound(t, p)
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func sound[W Worker](t testing.TB, p *Pool[W]) {
	t.Helper()
	if err := p.check(); err != nil {
		t.Errorf("broken invariants:\n%v", err)
	}
}

func acquire(t testing.TB, p *Pool[*fake], o AcquireOptions) *Lease[*fake] {
	t.Helper()
	l, err := p.Acquire(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// caller is an Acquire in a goroutine of its own.
type caller struct {
	lease *Lease[*fake]
	err   error
	done  chan struct{}
}

func call(ctx context.Context, p *Pool[*fake], o AcquireOptions) *caller {
	c := &caller{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.lease, c.err = p.Acquire(ctx, o)
	}()
	return c
}

func (c *caller) finished() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func wantCode(t testing.TB, err error, code status.Code) *status.Error {
	t.Helper()
	var e *status.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("want an error with code %v, got %v", code, err)
	}
	return e
}
