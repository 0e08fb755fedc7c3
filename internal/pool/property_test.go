package pool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

var (
	propertySeed  = flag.Uint64("pool.seed", 1, "seed of the random operations")
	propertySteps = flag.Int("pool.steps", 10_000, "number of random operations in each configuration")
)

// pending is a call in its own goroutine, and how to cancel it.
type pending struct {
	*caller
	cancel context.CancelFunc
}

// driver does random things to a pool and keeps its own account of what must follow.
type driver struct {
	t       *testing.T
	rng     *rand.Rand
	farm    *farm
	pool    *Pool[*fake]
	waiting []*pending
	held    []*Lease[*fake]
	ended   []*Lease[*fake] // released before; releasing again must change nothing
	others  []*pending
	granted int
	refused map[status.Code]int
	step    int
}

func TestInvariantsHoldAfterEveryRandomOperation(t *testing.T) {
	configs := map[string]func(c *Config[*fake]){
		"fixed":                func(c *Config[*fake]) { c.Min, c.Max = 3, 3 },
		"growing":              func(c *Config[*fake]) { c.Min, c.Max, c.IdleTimeout = 1, 4, 50*time.Millisecond },
		"growing and overflow": func(c *Config[*fake]) { c.Min, c.Max, c.Overflow, c.IdleTimeout = 1, 3, 2, 50*time.Millisecond },
		"lazy from zero":       func(c *Config[*fake]) { c.Min, c.Max, c.Lazy, c.IdleTimeout = 0, 3, true, 20*time.Millisecond },
		"one worker, one slot": func(c *Config[*fake]) { c.Min, c.Max, c.Slots = 1, 1, 1 },
		"recycling": func(c *Config[*fake]) {
			c.Min, c.Max, c.Overflow, c.IdleTimeout = 2, 4, 1, 80*time.Millisecond
			c.Recycle = Recycle{Requests: 5, Age: time.Second, Idle: 50 * time.Millisecond, Memory: 100}
		},
		"many slots": func(c *Config[*fake]) { c.Min, c.Max, c.Slots, c.GrowAfter = 1, 3, 8, 0 },
	}
	for name, configure := range configs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm()
				cfg := f.sized(1, 2)
				cfg.Queue = 12
				cfg.Memory = f.memory
				cfg.Breaker = Breaker{Base: 100 * time.Millisecond, Max: time.Second}
				cfg.Backoff = Backoff{Base: 5 * time.Millisecond, Max: time.Second, HalfLife: 100 * time.Millisecond, Tolerance: 3}
				configure(&cfg)
				d := &driver{
					t: t, rng: rand.New(rand.NewPCG(*propertySeed, 7)), farm: f, pool: open(t, f, cfg),
					refused: make(map[status.Code]int),
				}
				for d.step = range *propertySteps {
					what := d.act()
					synctest.Wait()
					d.audit(what)
					if t.Failed() {
						t.Fatalf("step %d of seed %d: %s", d.step, *propertySeed, what)
					}
				}
				d.finish()
				t.Logf("%d granted, refused %v, %+v", d.granted, d.refused, d.pool.Stats().Counters)
			})
		})
	}
}

// act does one random thing and says which.
func (d *driver) act() string {
	switch d.rng.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		return d.acquire()
	case 6, 7, 8, 9, 10:
		if len(d.held) == 0 {
			return d.acquire()
		}
		i := d.rng.IntN(len(d.held))
		l := d.held[i]
		d.held = append(d.held[:i], d.held[i+1:]...)
		d.ended = append(d.ended, l)
		l.Release()
		return "release " + l.Worker().ID()
	case 11:
		if len(d.ended) > 0 {
			d.ended[d.rng.IntN(len(d.ended))].Release()
		}
		return "release again"
	case 12:
		if len(d.waiting) > 0 {
			d.waiting[d.rng.IntN(len(d.waiting))].cancel()
		}
		return "cancel a caller"
	case 13:
		if w := d.anyLiving(); w != nil {
			w.die()
			return "kill " + w.ID()
		}
		return "kill nobody"
	case 19:
		if w := d.anyLiving(); w != nil {
			d.farm.set(func(*farm) { w.bytes += int64(d.rng.IntN(60)) })
			return "let " + w.ID() + " grow"
		}
		return "let nobody grow"
	case 14:
		d.farm.set(func(f *farm) {
			f.broken = nil
			if d.rng.IntN(6) == 0 {
				f.broken = errors.New("exit status 1")
			}
		})
		return "break or mend starts"
	case 15:
		d.farm.set(func(f *farm) {
			f.delay = time.Duration(d.rng.IntN(30)) * time.Millisecond
			f.stuck = time.Duration(d.rng.IntN(30)) * time.Millisecond
			f.doomed = d.rng.IntN(20) == 0
		})
		return "change the workers' ways"
	case 16:
		if d.rng.IntN(4) > 0 {
			return d.pass()
		}
		d.other("reset", d.pool.Reset)
		return "reset"
	case 17:
		if d.rng.IntN(2) == 0 {
			d.other("ready", d.pool.Ready)
			return "await ready"
		}
		d.other("idle", d.pool.Idle)
		return "await idle"
	default:
		return d.pass()
	}
}

func (d *driver) pass() string {
	by := time.Duration(d.rng.IntN(40_000)) * time.Microsecond
	if d.rng.IntN(50) == 0 {
		by *= 100
	}
	<-time.After(by)
	return fmt.Sprintf("let %v pass", by)
}

func (d *driver) acquire() string {
	var o AcquireOptions
	if d.rng.IntN(4) == 0 {
		if w := d.anyLiving(); w != nil {
			o.Prefer = w.ID()
			o.Pin = d.rng.IntN(2) == 0
		}
	}
	if d.rng.IntN(8) == 0 && !o.Pin {
		if w := d.anyLiving(); w != nil {
			o.Not = []string{w.ID()}
		}
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Duration(d.rng.IntN(300)+1)*time.Millisecond)
	d.waiting = append(d.waiting, &pending{call(ctx, d.pool, o), cancel})
	return fmt.Sprintf("acquire %+v", o)
}

// other runs something that waits for an event.
func (d *driver) other(name string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Duration(d.rng.IntN(2000)+1)*time.Millisecond)
	c := &caller{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if err := f(ctx); err != nil {
			c.err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	d.others = append(d.others, &pending{c, cancel})
}

func (d *driver) anyLiving() *fake {
	workers := d.pool.Stats().Workers
	if len(workers) == 0 {
		return nil
	}
	d.farm.mu.Lock()
	defer d.farm.mu.Unlock()
	return d.farm.workers[workers[d.rng.IntN(len(workers))].ID]
}

// audit collects what has happened and compares it with the pool's account.
func (d *driver) audit(what string) {
	var done []*pending
	done, d.waiting = finished(d.waiting)
	for _, c := range done {
		c.cancel()
		if (c.lease == nil) == (c.err == nil) {
			d.t.Errorf("lease %v with error %v", c.lease, c.err)
		}
		if c.err != nil {
			d.refuse(c.err)
			continue
		}
		d.granted++
		if w := c.lease.Worker(); !w.alive() {
			d.t.Errorf("%s was leased after its death", w.ID())
		}
		d.held = append(d.held, c.lease)
	}
	done, d.others = finished(d.others)
	for _, c := range done {
		c.cancel()
		if c.err != nil && status.CodeOf(c.err) != status.DeadlineExceeded {
			d.t.Error(c.err)
		}
	}
	if err := d.pool.check(); err != nil {
		d.t.Errorf("broken invariants after %s:\n%v", what, err)
	}
	s := d.pool.Stats()
	if s.Leased != len(d.held) {
		d.t.Errorf("%d leases are held, the pool counts %d", len(d.held), s.Leased)
	}
	if s.Queued != len(d.waiting) {
		d.t.Errorf("%d callers wait, the pool counts %d", len(d.waiting), s.Queued)
	}
	if s.Ready > s.Max+s.Overflow {
		d.t.Errorf("%d workers are ready", s.Ready)
	}
	perWorker := make(map[*fake]int)
	for _, l := range d.held {
		if perWorker[l.Worker()]++; perWorker[l.Worker()] > s.Slots {
			d.t.Errorf("%s has more leases than slots", l.Worker().ID())
		}
	}
}

// finished parts calls that have returned from those that have not.
func finished(all []*pending) (done, rest []*pending) {
	for _, c := range all {
		if c.finished() {
			done = append(done, c)
		} else {
			rest = append(rest, c)
		}
	}
	return done, rest
}

func (d *driver) refuse(err error) {
	code := status.CodeOf(err)
	d.refused[code]++
	switch code {
	case status.Canceled, status.DeadlineExceeded, status.Overloaded, status.Unavailable, status.WorkerLost:
	default:
		d.t.Errorf("a caller got %v", err)
	}
}

// finish mends everything, gives everything back and expects the pool as it was at first.
func (d *driver) finish() {
	d.farm.set(func(f *farm) { f.broken, f.delay, f.stuck, f.doomed = nil, 0, 0, false })
	for len(d.held) > 0 || len(d.waiting) > 0 || len(d.others) > 0 {
		for _, l := range d.held {
			l.Release()
		}
		d.held = nil
		<-time.After(time.Second)
		synctest.Wait()
		d.audit("the end")
	}
	if err := d.pool.Idle(d.t.Context()); err != nil {
		d.t.Error(err)
	}
	if err := d.pool.Ready(d.t.Context()); err != nil {
		d.t.Error(err)
	}
	<-time.After(time.Hour)
	synctest.Wait()
	s := d.pool.Stats()
	if s.Free != s.Ready*s.Slots || s.Leased+s.Queued+s.Draining+s.Stopping+s.Starting != 0 {
		d.t.Errorf("not at rest: %+v", s)
	}
	if d.pool.cfg.IdleTimeout > 0 && s.Ready != s.Min {
		d.t.Errorf("%d workers at rest, the minimum is %d", s.Ready, s.Min)
	}
	if n := d.farm.living(); n != s.Ready {
		d.t.Errorf("%d workers live, %d are ready", n, s.Ready)
	}
}
