package worker

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

func TestStartReturnsAWorkerThatHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newPeer(nil))
		if w.State() != Ready || w.ID() != "w1" || w.PID() != 4711 || w.Hello().DSPy != "3.4.1" {
			t.Errorf("state %v, id %q, pid %d, hello %+v", w.State(), w.ID(), w.PID(), w.Hello())
		}
	})
}

func TestAWorkerThatDoesNotStartSaysWhy(t *testing.T) {
	traceback := []string{"Traceback (most recent call last):", "ModuleNotFoundError: No module named 'dspy'"}
	bubble(t, "it exits before it answers", func(t *testing.T) {
		p := newPeer(nil)
		p.lines = traceback
		p.end(process.Exit{Code: 1})
		_, err := Start(t.Context(), options(p))
		e := wantCode(t, err, status.Unavailable)
		if !strings.Contains(e.Message, "exited with status 1") || !strings.Contains(e.Message, "No module named 'dspy'") {
			t.Errorf("the reason is missing: %v", e)
		}
		if e.Python == nil || len(e.Python.Stderr) != 2 || e.Worker != "w1" || !e.Retryable {
			t.Errorf("the last lines are missing: %+v", e)
		}
	})
	bubble(t, "it exits a little after it has closed its connection", func(t *testing.T) {
		p := newPeer(nil)
		_ = p.far.Close()
		time.AfterFunc(time.Second, func() { p.end(process.Exit{Code: 3}) })
		_, err := Start(t.Context(), options(p))
		if e := wantCode(t, err, status.Unavailable); !strings.Contains(e.Message, "exited with status 3") {
			t.Errorf("the reason is missing: %v", e)
		}
	})
	bubble(t, "it never answers", func(t *testing.T) {
		p := newPeer(nil)
		p.stacks = "File \"x.py\", line 3 in spin"
		close(p.deaf)
		began := time.Now()
		_, err := Start(t.Context(), options(p))
		e := wantCode(t, err, status.Unavailable)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
		if e.Python == nil || !strings.Contains(e.Python.Traceback, "in spin") || p.kills() == 0 {
			t.Errorf("no stacks, or not killed: %+v", e)
		}
	})
	bubble(t, "the caller's time is up", func(t *testing.T) {
		p := newPeer(nil)
		close(p.deaf)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Start(ctx, options(p))
		wantCode(t, err, status.DeadlineExceeded)
		if p.kills() == 0 {
			t.Error("not killed")
		}
	})
	bubble(t, "it is of another version", func(t *testing.T) {
		p := newPeer(nil)
		p.serve()
		o := options(p)
		o.Hello.Version = "9.9.9"
		_, err := Start(t.Context(), o)
		if e := wantCode(t, err, status.Unavailable); !strings.Contains(e.Message, "9.9.9") {
			t.Errorf("the versions are missing: %v", e)
		}
		if p.kills() == 0 {
			t.Error("not killed")
		}
	})
	bubble(t, "there is no process", func(t *testing.T) {
		o := options(nil)
		o.Process = func(context.Context) (Process, error) {
			return nil, status.New(status.Unavailable, "start", "no such file")
		}
		_, err := Start(t.Context(), o)
		wantCode(t, err, status.Unavailable)
	})
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	_, err := Start(t.Context(), Options{})
	wantCode(t, err, status.InvalidArgument)
	o := options(nil)
	o.CancelGrace = -1
	_, err = Start(t.Context(), o)
	wantCode(t, err, status.InvalidArgument)
}

func TestALostWorkerFailsItsCallsWithHowItEnded(t *testing.T) {
	bubble(t, "killed", func(t *testing.T) {
		g := newGate()
		p := newPeer(script{"program.run": g.handle})
		defer close(g.open)
		p.lines = []string{"about to fall"}
		w := start(t, p)
		a, b := run(t.Context(), w, Call{Method: "program.run"}), run(t.Context(), w, Call{Method: "program.run"})
		<-g.entered
		<-g.entered
		p.end(process.Exit{Code: -1, Signal: syscall.SIGSEGV})
		for _, o := range []*outcome{a, b} {
			<-o.done
			e := wantCode(t, o.err, status.WorkerLost)
			if !strings.Contains(e.Message, "SIGSEGV") || !strings.Contains(e.Message, "about to fall") || e.Worker != "w1" {
				t.Errorf("the cause is missing: %v", e)
			}
			if e.Python == nil || len(e.Python.Stderr) != 1 || errors.Is(e, wire.ErrNotSent) || errors.Is(e, status.ErrClosed) {
				t.Errorf("wrong details: %+v", e)
			}
			if !closed(o.settled) {
				t.Error("not settled")
			}
		}
		if wantCode(t, w.Err(), status.WorkerLost); w.State() != Lost || !closed(w.Done()) {
			t.Errorf("state %v", w.State())
		}
		late := run(t.Context(), w, Call{Method: "program.run"})
		<-late.done
		if e := wantCode(t, late.err, status.WorkerLost); !errors.Is(e, wire.ErrNotSent) || !e.Retryable {
			t.Errorf("a call after the end was not sent: %+v", e)
		}
	})
	bubble(t, "its connection ends but the process does not", func(t *testing.T) {
		p := newPeer(script{"program.run": block})
		o := options(p)
		go func() { _, _ = p.wire.Handshake(context.Background()) }()
		w, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c := run(t.Context(), w, Call{Method: "program.run"})
		synctest.Wait()
		_ = p.wire.Close()
		<-c.done
		wantCode(t, c.err, status.WorkerLost)
		if c.took != exitGrace || p.kills() == 0 {
			t.Errorf("took %v, killed %d times", c.took, p.kills())
		}
	})
	bubble(t, "it speaks nonsense", func(t *testing.T) {
		p := newPeer(script{"program.run": block})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run"})
		synctest.Wait()
		if _, err := p.far.Write([]byte("hello, this is not a frame at all")); err != nil {
			t.Fatal(err)
		}
		<-c.done
		e := wantCode(t, c.err, status.WorkerLost)
		var fault *wire.ProtocolError
		if !errors.As(e, &fault) || !strings.Contains(e.Message, "broke the protocol") {
			t.Errorf("the fault is missing: %v", e)
		}
	})
}

func TestTheLastAnswersOfADyingProcessAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(nil)
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "worker.echo", Message: wire.Message{Body: []byte(`"x"`)}})
		<-c.done
		p.end(process.Exit{Code: 7})
		if c.err != nil || string(c.reply.Body) != `"x"` {
			t.Errorf("%s, %v", c.reply.Body, c.err)
		}
		<-w.Done()
	})
}

func TestStopDrainsAndIsLegalFromEveryState(t *testing.T) {
	bubble(t, "ready", func(t *testing.T) {
		p := newPeer(nil)
		w := start(t, p)
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if w.State() != Stopped || w.Err() != nil || p.kills() != 0 || p.Exit().Code != 0 {
			t.Errorf("state %v, err %v, exit %v", w.State(), w.Err(), p.Exit())
		}
		if err := w.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
		c := run(t.Context(), w, Call{Method: "program.run"})
		<-c.done
		if e := wantCode(t, c.err, status.Unavailable); !errors.Is(e, wire.ErrNotSent) {
			t.Errorf("%+v", e)
		}
	})
	bubble(t, "busy", func(t *testing.T) {
		g := newGate()
		p := newPeer(script{"program.run": g.handle})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run"})
		<-g.entered
		if w.State() != Busy || w.Calls() != 1 {
			t.Errorf("state %v with %d calls", w.State(), w.Calls())
		}
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		synctest.Wait()
		if w.State() != Draining {
			t.Errorf("state %v", w.State())
		}
		refused := run(t.Context(), w, Call{Method: "program.run"})
		<-refused.done
		wantCode(t, refused.err, status.Unavailable)
		close(g.open)
		<-c.done
		if c.err != nil {
			t.Errorf("a call in flight failed: %v", c.err)
		}
		if err := <-stopped; err != nil || w.State() != Stopped || p.kills() != 0 {
			t.Errorf("Stop: %v, state %v", err, w.State())
		}
	})
	bubble(t, "busy, and out of patience", func(t *testing.T) {
		p := newPeer(script{"program.run": block})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run"})
		synctest.Wait()
		patient := make(chan error, 1)
		go func() { patient <- w.Stop(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
		<-c.done
		wantCode(t, c.err, status.Closed)
		if c.took != time.Second || w.State() != Stopped || w.Err() != nil {
			t.Errorf("after %v: state %v, err %v", c.took, w.State(), w.Err())
		}
		if err := <-patient; err != nil {
			t.Error(err)
		}
	})
	bubble(t, "it does not exit", func(t *testing.T) {
		p := newPeer(nil)
		go func() { _, _ = p.wire.Handshake(context.Background()) }()
		w, err := Start(t.Context(), options(p))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*time.Second || p.kills() == 0 || w.State() != Stopped {
			t.Errorf("after %v, %d kills, state %v", took, p.kills(), w.State())
		}
	})
	bubble(t, "it exits badly", func(t *testing.T) {
		p := newPeer(nil)
		go func() {
			_, _ = p.wire.Handshake(context.Background())
			<-p.wire.Done()
			p.end(process.Exit{Code: 76})
		}()
		w, err := Start(t.Context(), options(p))
		if err != nil {
			t.Fatal(err)
		}
		if e := wantCode(t, w.Stop(t.Context()), status.WorkerLost); !strings.Contains(e.Message, "76") {
			t.Errorf("the status is missing: %v", e)
		}
		if w.State() != Stopped || w.Err() != nil {
			t.Errorf("state %v, err %v", w.State(), w.Err())
		}
	})
	bubble(t, "lost", func(t *testing.T) {
		p := newPeer(nil)
		w := start(t, p)
		p.end(process.Exit{Code: 1})
		<-w.Done()
		if err := w.Stop(t.Context()); err != nil || w.State() != Lost {
			t.Errorf("Stop: %v, state %v", err, w.State())
		}
	})
	bubble(t, "dying while it drains", func(t *testing.T) {
		p := newPeer(script{"program.run": block})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run"})
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		synctest.Wait()
		p.end(process.Exit{Code: -1, Signal: syscall.SIGKILL})
		if err := <-stopped; err != nil { // It may fail: the worker was lost while it was asked to stop.
			t.Logf("stop: %v", err)
		}
		<-c.done
		wantCode(t, c.err, status.WorkerLost)
		if w.State() != Lost {
			t.Errorf("state %v", w.State())
		}
	})
}

func TestTheTableOfTransitionsEndsEverywhere(t *testing.T) {
	for s := Starting; s <= Lost; s++ {
		final := s == Stopped || s == Lost
		if s.follows(Lost) == final {
			t.Errorf("%v → lost: %v", s, s.follows(Lost))
		}
		if toStopping := s.follows(Stopping); toStopping != (s < Stopping) {
			t.Errorf("%v → stopping: %v", s, toStopping)
		}
		for next := Starting; next <= Lost; next++ {
			back := next <= s && (s != Busy || next != Ready)
			if s.follows(next) && (final || back) {
				t.Errorf("%v → %v must not be", s, next)
			}
		}
	}
}
