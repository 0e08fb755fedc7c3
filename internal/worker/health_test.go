package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

func TestAWorkerThatAnswersLivesHoweverLongItsCallsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		p := newPeer(script{"program.run": g.handle})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run"})
		<-g.entered
		<-time.After(24 * time.Hour)
		close(g.open)
		<-c.done
		if c.err != nil || p.kills() != 0 {
			t.Errorf("%v, %d kills", c.err, p.kills())
		}
		<-time.After(24 * time.Hour)
		if w.State() != Ready {
			t.Errorf("state %v", w.State())
		}
	})
}

func TestAStuckWorkerIsKilledWithinItsBoundAndSaysWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(script{"program.run": block})
		p.stacks = "File \"acme.py\", line 9 in spin"
		w := start(t, p, func(o *Options) { o.PingBusy, o.StuckAfter = 100*time.Millisecond, 400*time.Millisecond })
		<-time.After(time.Minute) // the check sleeps for PingIdle now, and must be woken
		c := run(t.Context(), w, Call{Method: "program.run"})
		synctest.Wait()
		close(p.deaf)
		<-c.done
		e := wantCode(t, c.err, status.WorkerLost)
		if c.took > 500*time.Millisecond {
			t.Errorf("killed after %v", c.took)
		}
		if !strings.Contains(e.Message, "answered no ping for 400ms; 1 calls were in flight: program.run") ||
			e.Python == nil || !strings.Contains(e.Python.Traceback, "in spin") {
			t.Errorf("the cause is missing: %+v", e)
		}
	})
}

func TestAnIdleWorkerIsCheckedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(nil)
		w := start(t, p)
		close(p.deaf)
		began := time.Now()
		<-w.Done()
		if took := time.Since(began); took != 60*time.Second {
			t.Errorf("found after %v", took)
		}
	})
}

func TestLogFramesReachTheLoggerWithTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newPeer(nil)
		w := start(t, p, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		if err := p.wire.SendLog(t.Context(), 0, []byte(`{"level":"warning","message":"careful","logger":"dspy"}`)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := w.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := out.String(); !strings.Contains(got, `level=WARN msg=careful worker=w1 logger=dspy`) {
			t.Errorf("logged %q", got)
		}
	})
}
