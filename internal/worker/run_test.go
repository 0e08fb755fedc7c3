package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/lm"
)

func TestRunReturnsTheReplyAndSettlesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newPeer(nil))
		settled := 0
		reply, err := w.Run(t.Context(), Call{
			Method:  "worker.echo",
			Message: wire.Message{Body: []byte(`{"a":1}`), Attachments: []wire.Attachment{wire.Bytes("raw")}},
			Settled: func() { settled++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Release()
		if string(reply.Body) != `{"a":1}` || len(reply.Attachments) != 1 || settled != 1 {
			t.Errorf("reply %s with %d attachments, settled %d times", reply.Body, len(reply.Attachments), settled)
		}
		if w.State() != Ready {
			t.Errorf("state %v", w.State())
		}
	})
}

func TestPythonCallsBackOnBehalfOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *peer
		p = newPeer(script{"program.run": func(ctx context.Context, in *wire.Inbound) (wire.Message, error) {
			return p.wire.Call(ctx, "lm.complete", wire.Message{Body: []byte(`"ask"`)}, wire.WithParent(in.ID))
		}})
		w := start(t, p)
		reply, err := w.Run(t.Context(), Call{
			Method: "program.run",
			Handler: func(_ context.Context, in *wire.Inbound) (wire.Message, error) {
				return wire.Message{Body: []byte(in.Method)}, nil
			},
		})
		if err != nil || string(reply.Body) != "lm.complete" {
			t.Errorf("%s, %v", reply.Body, err)
		}
	})
}

func TestAProgramIsSentOnceHoweverManyCallsNeedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(script{"program.run": func(context.Context, *wire.Inbound) (wire.Message, error) {
			return wire.Message{Body: []byte("{}")}, nil
		}})
		w := start(t, p)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				c := Call{Method: "program.run", Program: Program{Hash: fmt.Sprintf("h%d", i%2), Spec: []byte(`{}`)}}
				if _, err := w.Run(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(p.sent()); n != 2 {
			t.Errorf("two programs were sent %d times", n)
		}
	})
}

func TestAnUnknownProgramIsSentAgainAndTheCallRepeatedOnce(t *testing.T) {
	for name, forgets := range map[string]int32{"forgotten once": 1, "forgotten always": 100} {
		bubble(t, name, func(t *testing.T) {
			var runs atomic.Int32
			p := newPeer(script{"program.run": func(context.Context, *wire.Inbound) (wire.Message, error) {
				if runs.Add(1) <= forgets {
					return wire.Message{}, wireError(`{"code":"unknown_program","message":"no program h"}`)
				}
				return wire.Message{Body: []byte("{}")}, nil
			}})
			w := start(t, p)
			_, err := w.Run(t.Context(), Call{Method: "program.run", Program: Program{Hash: "h", Spec: []byte(`{}`)}})
			if forgets == 1 && err != nil {
				t.Error(err)
			}
			if forgets > 1 {
				wantCode(t, err, status.Internal)
			}
			if len(p.sent()) != 2 || runs.Load() != 2 {
				t.Errorf("sent %d times, run %d times", len(p.sent()), runs.Load())
			}
		})
	}
}

func TestACallerThatGivesUpWhileAProgramIsSentDoesNotSpoilItForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var puts atomic.Int32
		p := newPeer(script{
			"program.put": func(ctx context.Context, _ *wire.Inbound) (wire.Message, error) {
				if puts.Add(1) == 1 {
					<-ctx.Done()
					return wire.Message{}, context.Cause(ctx)
				}
				<-release
				return wire.Message{Body: []byte("{}")}, nil
			},
			"program.run": func(context.Context, *wire.Inbound) (wire.Message, error) {
				return wire.Message{Body: []byte("{}")}, nil
			},
		})
		w := start(t, p)
		c := Call{Method: "program.run", Program: Program{Hash: "h", Spec: []byte(`{}`)}}
		hasty, cancel := context.WithCancel(t.Context())
		first := run(hasty, w, c)
		synctest.Wait()
		second := run(t.Context(), w, c)
		synctest.Wait()
		cancel()
		<-first.done
		wantCode(t, first.err, status.Canceled)
		synctest.Wait()
		close(release)
		<-second.done
		if second.err != nil {
			t.Error(second.err)
		}
		<-first.settled
	})
}

func TestACanceledCallReturnsAtOnceAndSettlesWhenPythonConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		p := newPeer(script{"program.run": g.handle})
		w := start(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		c := run(ctx, w, Call{Method: "program.run"})
		<-c.done
		if e := wantCode(t, c.err, status.DeadlineExceeded); e.Worker != "w1" || c.took != 50*time.Millisecond {
			t.Errorf("after %v: %+v", c.took, e)
		}
		<-time.After(time.Second)
		if closed(c.settled) || w.Calls() != 1 || w.State() != Busy {
			t.Error("the slot was given back while Python still ran the call")
		}
		close(g.open)
		synctest.Wait()
		if !closed(c.settled) || w.Calls() != 0 || w.State() != Ready || p.kills() != 0 {
			t.Errorf("settled %v, %d calls, state %v", closed(c.settled), w.Calls(), w.State())
		}
	})
}

func TestACanceledCallThatDoesNotStopCostsTheWorkerItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		defer close(g.open)
		p := newPeer(script{"program.run": g.handle, "program.slow": block})
		p.stacks = "File \"acme.py\", line 9 in spin"
		w := start(t, p, func(o *Options) { o.CancelGrace = 300 * time.Millisecond })
		other := run(t.Context(), w, Call{Method: "program.slow"})
		ctx, cancel := context.WithCancel(t.Context())
		c := run(ctx, w, Call{Method: "program.run"})
		<-g.entered
		began := time.Now()
		cancel()
		<-c.done
		wantCode(t, c.err, status.Canceled)
		<-c.settled
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("settled after %v", took)
		}
		<-other.done
		e := wantCode(t, other.err, status.WorkerLost)
		if !strings.Contains(e.Message, "did not stop") || e.Python == nil || !strings.Contains(e.Python.Traceback, "in spin") {
			t.Errorf("the cause is missing: %+v", e)
		}
	})
}

func TestAFullFrameIsRefusedAndTheWorkerLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newPeer(nil), func(o *Options) { o.MaxFrame = 4096 })
		c := run(t.Context(), w, Call{Method: "worker.echo", Message: wire.Message{Body: make([]byte, 5000)}})
		<-c.done
		if e := wantCode(t, c.err, status.InvalidArgument); e.Worker != "w1" || !strings.Contains(e.Message, "4096") {
			t.Errorf("%+v", e)
		}
		if !closed(c.settled) || w.State() != Ready {
			t.Errorf("state %v", w.State())
		}
	})
}

func TestErrorsOfPythonReachTheCallerWhole(t *testing.T) {
	mine := errors.New("the budget of tenant 7 is used up")
	resolve := func(ref uint64) error {
		if ref == 5 {
			return mine
		}
		return nil
	}
	rateLimit := &lm.Error{
		Kind: lm.KindRateLimit, Message: "slow down", Provider: "openai", Status: 429,
		Code: "rpm", RequestID: "req_1", RetryAfter: 1500 * time.Millisecond,
	}
	cases := map[string]struct {
		payload string
		want    status.Error
	}{
		"user code": {
			`{"code":"python","message":"ValueError: bad","python":{"type":"ValueError","mro":["ValueError","Exception"],"message":"bad","traceback":"Traceback…"}}`,
			status.Error{
				Code: status.Python, Message: "ValueError: bad",
				Python: &status.PythonError{
					Type: "ValueError", MRO: []string{"ValueError", "Exception"}, Message: "bad",
					Traceback: "Traceback…", Stderr: []string{"printed before"},
				},
			},
		},
		"an answer that cannot be parsed": {
			`{"code":"parse_failed","message":"no field answer","completion":"I do not know","adapter":"ChatAdapter"}`,
			status.Error{Code: status.ParseFailed, Message: "no field answer", Completion: "I do not know"},
		},
		"a language model's failure": {
			`{"code":"lm","message":"slow down","lm":{"kind":"rate_limit","status":429,"retry_after":1.5,"request_id":"req_1","provider":"openai","provider_code":"rpm"}}`,
			status.Error{Code: status.LM, Message: "slow down", Retryable: true, RetryAfter: 1500 * time.Millisecond, Err: rateLimit},
		},
		"a failure of the host's own, by reference": {
			`{"code":"budget_exceeded","message":"used up","ref":5}`,
			status.Error{Code: status.BudgetExceeded, Message: "used up", Err: mine},
		},
		"a reference to nothing": {
			`{"code":"invalid_output","message":"too long","ref":99}`,
			status.Error{Code: status.InvalidOutput, Message: "too long"},
		},
		"a code that does not exist": {
			`{"code":"teapot","message":"short and stout"}`,
			status.Error{Code: status.Internal, Message: "teapot: short and stout"},
		},
		"not JSON": {
			`nonsense`,
			status.Error{Code: status.Internal, Message: "the worker answered an error that cannot be read: the peer answered an error that cannot be read: nonsense"},
		},
	}
	for name, tc := range cases {
		bubble(t, name, func(t *testing.T) {
			p := newPeer(script{"program.run": failure(tc.payload)})
			p.lines = []string{"printed before"}
			w := start(t, p)
			_, err := w.Run(t.Context(), Call{Method: "program.run", Resolve: resolve})
			got := *wantCode(t, err, tc.want.Code)
			want := tc.want
			want.Op, want.Worker, want.Remote = "run", "w1", true
			if want.Err == nil {
				got.Err = nil // how JSON failed is not this test's business
			}
			same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || cmp.Equal(a, b) })
			if diff := cmp.Diff(want, got, same); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if w.State() != Ready {
				t.Errorf("state %v", w.State())
			}
		})
	}
}

func TestACallOnAWorkerThatDiesWhileItGetsTheProgramWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		defer close(g.open)
		p := newPeer(script{"program.put": g.handle})
		w := start(t, p)
		c := run(t.Context(), w, Call{Method: "program.run", Program: Program{Hash: "h", Spec: []byte(`{}`)}})
		<-g.entered
		p.end(process.Exit{Code: 1})
		<-c.done
		if e := wantCode(t, c.err, status.WorkerLost); !errors.Is(e, wire.ErrNotSent) || !e.Retryable {
			t.Errorf("%+v", e)
		}
	})
}
