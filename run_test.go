package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

func TestRun(t *testing.T) {
	t.Parallel()
	// One Runtime serves all cases; each has a model of its own under its name.
	var (
		boom    = errors.New("boom")
		limited = &lm.Error{Kind: lm.KindRateLimit, Status: 429, RetryAfter: 3 * time.Second, RequestID: "r1", Provider: "acme"}
		failing = func(err error) lm.Model {
			return scripted.Func(func(context.Context, *lm.Request) (string, error) { return "", err })
		}
		hanging  = make(chan struct{}, 8)
		settings = scripted.List(completion("a"), completion("b"), completion("c"))
	)
	rt := open(t, dspex.Config{
		LM: echoing(),
		LMs: map[string]lm.Model{
			"limited":  failing(limited),
			"boom":     failing(fmt.Errorf("wrapped: %w", boom)),
			"settings": settings,
			"hello":    scripted.List(completion("hello")),
			"nothing":  fixed{nil},
			"empty":    fixed{&lm.Response{Model: "m", Message: lm.Assistant(), FinishReason: lm.FinishStop}},
			"cut":      fixed{&lm.Response{Model: "m", Message: lm.Assistant(lm.Part{Type: lm.PartText, Text: `{"ans`}), FinishReason: lm.FinishLength}},
			"hanging": scripted.Func(func(ctx context.Context, _ *lm.Request) (string, error) {
				hanging <- struct{}{}
				<-ctx.Done()
				return "", ctx.Err()
			}),
		},
		Settings: dspex.Settings{Max: 1},
	})
	program := dspex.Predict[question, answer]("")

	t.Run("a prediction says who made it and what it cost", func(t *testing.T) {
		t.Parallel()
		pred, err := program.Run(t.Context(), rt, question{"Who?"})
		if err != nil {
			t.Fatal(err)
		}
		if pred.Worker.ID == "" || pred.Worker.PID == 0 || pred.Timing.Total <= 0 || pred.Backend != "process" {
			t.Errorf("worker %+v, timing %+v, backend %q", pred.Worker, pred.Timing, pred.Backend)
		}
		if len(pred.Calls) != 1 || pred.Calls[0].Model != dspex.DefaultRoute || pred.Calls[0].Predictor != "self" {
			t.Errorf("calls %+v", pred.Calls)
		}
	})
	t.Run("a model's error keeps its identity and is not tried again", func(t *testing.T) {
		t.Parallel()
		_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM("limited"))
		var failure *lm.Error
		if !errors.As(err, &failure) || failure != limited {
			t.Errorf("got %v, want the model's own error", err)
		}
		var e *dspex.Error
		if !errors.As(err, &e) || e.Code != dspex.CodeLM || len(e.Calls) != 1 || !e.Remote {
			t.Errorf("got %+v, want code lm after one call", e)
		}
	})
	t.Run("an error that is no lm.Error keeps its identity too", func(t *testing.T) {
		t.Parallel()
		_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM("boom"))
		if !errors.Is(err, boom) || dspex.CodeOf(err) != dspex.CodeLM {
			t.Errorf("got %v, want code lm caused by %v", err, boom)
		}
	})
	t.Run("the end of the context ends the call and frees its slot", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-hanging; cancel() }()
		_, err := program.Run(ctx, rt, question{"Who?"}, dspex.WithLM("hanging"))
		if !errors.Is(err, context.Canceled) || dspex.CodeOf(err) != dspex.CodeCanceled {
			t.Errorf("got %v, want canceled", err)
		}
		_, err = program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM("hanging"), dspex.WithTimeout(time.Millisecond))
		if !errors.Is(err, context.DeadlineExceeded) || dspex.CodeOf(err) != dspex.CodeDeadlineExceeded {
			t.Errorf("got %v, want deadline_exceeded", err)
		}
	})
	t.Run("a call's settings win over the program's", func(t *testing.T) {
		t.Parallel()
		warm := program.With(dspex.WithTemperature(0.5), dspex.WithMaxTokens(10), dspex.WithLM("settings"))
		for _, opts := range [][]dspex.CallOption{nil, {dspex.WithTemperature(0.25)}} {
			if _, err := warm.Run(t.Context(), rt, question{"Who?"}, opts...); err != nil {
				t.Fatal(err)
			}
		}
		got := settings.Requests()
		for i, want := range []float64{0.5, 0.25} {
			c := got[i].Config
			if c.Temperature == nil || *c.Temperature != want || c.MaxTokens == nil || *c.MaxTokens != 10 {
				t.Errorf("request %d has settings %+v, want temperature %v and 10 tokens", i, c, want)
			}
		}
		if program.Hash() != warm.Hash() {
			t.Error("options of a call changed the program's hash")
		}
	})
	t.Run("demos of a call replace the program's", func(t *testing.T) {
		t.Parallel()
		shown := program.With(dspex.WithDemos(dspex.Values{"question": "Q1", "answer": "A1"}))
		if err := shown.Err(); err != nil {
			t.Fatal(err)
		}
		if program.Hash() == shown.Hash() {
			t.Error("demos are part of a program, but its hash is the same")
		}
		bad := program.With(dspex.WithDemos(dspex.Values{"qestion": "Q1"}))
		if dspex.CodeOf(bad.Err()) != dspex.CodeInvalidProgram {
			t.Errorf("a demo with an unknown field: %v", bad.Err())
		}
		_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithDemos(dspex.Values{"qestion": "Q1"}))
		if dspex.CodeOf(err) != dspex.CodeInvalidArgument {
			t.Errorf("a demo of a call with an unknown field: %v", err)
		}
	})
	t.Run("settings that no model takes are refused", func(t *testing.T) {
		t.Parallel()
		if err := program.With(dspex.WithTemperature(9)).Err(); dspex.CodeOf(err) != dspex.CodeInvalidProgram {
			t.Errorf("of a program: %v, want invalid_program", err)
		}
		_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithMaxTokens(0))
		if dspex.CodeOf(err) != dspex.CodeInvalidArgument {
			t.Errorf("of a call: %v, want invalid_argument", err)
		}
	})
	t.Run("a Runtime that is nil is refused", func(t *testing.T) {
		t.Parallel()
		var none *dspex.Runtime
		for _, r := range []dspex.Runner{nil, none} {
			if _, err := program.Run(t.Context(), r, question{"Who?"}); dspex.CodeOf(err) != dspex.CodeInvalidArgument {
				t.Errorf("got %v, want invalid_argument", err)
			}
		}
	})
	t.Run("a model that answers nothing is the model's error", func(t *testing.T) {
		t.Parallel()
		for _, route := range []string{"nothing", "empty"} {
			_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM(route))
			if failure, ok := errors.AsType[*lm.Error](err); !ok || failure.Kind != lm.KindProvider {
				t.Errorf("%s: %v, want an lm.Error of the provider", route, err)
			}
		}
	})
	t.Run("an answer that was cut off is told as such", func(t *testing.T) {
		t.Parallel()
		_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM("cut"), dspex.WithAdapter("json"))
		if dspex.CodeOf(err) != dspex.CodeParseFailed || !strings.Contains(err.Error(), "WithMaxTokens") {
			t.Errorf("got %v, want parse_failed that names WithMaxTokens", err)
		}
	})
	t.Run("a program may have no inputs", func(t *testing.T) {
		t.Parallel()
		pred, err := dspex.Predict[struct{}, answer]("Say hello.").Run(t.Context(), rt, struct{}{}, dspex.WithLM("hello"))
		if err != nil || pred.Output.Answer != "hello" {
			t.Errorf("got %+v, %v", pred, err)
		}
	})
	t.Run("a Runtime without a model says so", func(t *testing.T) {
		t.Parallel()
		bare := open(t, dspex.Config{Settings: dspex.Settings{Lazy: true}})
		_, err := program.Run(t.Context(), bare, question{"Who?"})
		if dspex.CodeOf(err) != dspex.CodeInvalidArgument {
			t.Errorf("got %v, want invalid_argument", err)
		}
	})
}

// fixed is a model that always returns the same response.
type fixed struct{ response *lm.Response }

func (f fixed) Complete(context.Context, *lm.Request) (*lm.Response, error) { return f.response, nil }

func (f fixed) Stream(context.Context, *lm.Request) iter.Seq2[lm.Event, error] {
	return lm.Replay(func() (*lm.Response, error) { return f.response, nil })
}

func TestBatch(t *testing.T) {
	t.Parallel()
	var calls, most, now atomic.Int64
	rt := open(t, dspex.Config{
		LM: scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
			calls.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			switch text := asked(req); text {
			case "fail":
				return "", &lm.Error{Kind: lm.KindServer, Message: "no"}
			case "wait":
				<-ctx.Done()
				return "", ctx.Err()
			default:
				return completion(text), nil
			}
		}),
		Settings: dspex.Settings{Max: 2},
	})
	program := dspex.Predict[question, answer]("")
	ins := func(texts ...string) (ins []question) {
		for _, text := range texts {
			ins = append(ins, question{text})
		}
		return ins
	}

	t.Run("every input has one result that carries its index", func(t *testing.T) {
		var texts []string
		for i := range 100 {
			texts = append(texts, fmt.Sprintf("question %d", i))
		}
		got := make([]string, len(texts))
		for r := range program.Batch(t.Context(), rt, ins(texts...), dspex.Concurrency(4)) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			got[r.Index] += r.Prediction.Output.Answer
		}
		if diff := cmp.Diff(texts, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if most.Load() > 4 {
			t.Errorf("%d calls at once, want at most 4", most.Load())
		}
	})
	t.Run("one failure does not end the batch", func(t *testing.T) {
		var failed, done int
		for r := range program.Batch(t.Context(), rt, ins("a", "fail", "b")) {
			if r.Err != nil {
				failed++
			} else {
				done++
			}
		}
		if failed != 1 || done != 2 {
			t.Errorf("%d failed and %d succeeded, want 1 and 2", failed, done)
		}
	})
	t.Run("StopOnError cancels what runs and starts nothing more", func(t *testing.T) {
		before := calls.Load()
		var codes []dspex.Code
		for r := range program.Batch(t.Context(), rt, ins("wait", "fail", "a", "b", "c"), dspex.StopOnError(), dspex.Concurrency(2)) {
			codes = append(codes, dspex.CodeOf(r.Err))
		}
		slices.Sort(codes)
		if diff := cmp.Diff([]dspex.Code{dspex.CodeLM, dspex.CodeCanceled}, codes); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
		if n := calls.Load() - before; n > 2 {
			t.Errorf("%d calls reached the model, want at most 2", n)
		}
	})
	t.Run("leaving the loop cancels what runs", func(t *testing.T) {
		for r := range program.Batch(t.Context(), rt, ins("a", "wait", "wait", "wait")) {
			if r.Err != nil || r.Index != 0 {
				t.Errorf("got %+v, want the first input's result", r)
			}
			break
		}
		if err := rt.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := now.Load(); n != 0 {
			t.Errorf("the model still works on %d requests", n)
		}
	})
	t.Run("an empty batch yields nothing", func(t *testing.T) {
		for r := range program.Batch(t.Context(), rt, nil) {
			t.Errorf("got %+v", r)
		}
	})
}

// Whatever Go can say comes through DSPy's types and back.
func TestTypesComeThrough(t *testing.T) {
	t.Parallel()
	type place struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	type in struct {
		When  time.Time         `json:"when"`
		Data  []byte            `json:"data"`
		Place place             `json:"place"`
		Scale map[string]int    `json:"scale"`
		Maybe *float64          `json:"maybe"`
		Label string            `json:"label" enum:"good,bad"`
		More  map[string]any    `json:"more"`
		Notes map[string]string `json:"notes"`
	}
	type out struct {
		Then  time.Time      `json:"then"`
		Found *place         `json:"found"`
		List  []place        `json:"list"`
		Count int64          `json:"count"`
		Share float64        `json:"share"`
		Sure  bool           `json:"sure"`
		Class string         `json:"class_" enum:"good,bad"`
		Sizes map[string]int `json:"sizes"`
	}
	reply := `{"then": "2026-01-02T03:04:05Z", "found": null, "list": [{"name": "Köln", "tags": ["a"]}],
		"count": 9007199254740993, "share": 0.25, "sure": true, "class_": "bad", "sizes": {"x": 1}}`
	rt := open(t, dspex.Config{LM: scripted.List(reply), Settings: dspex.Settings{Max: 1}})
	program := dspex.Predict[in, out]("", dspex.WithAdapter("json"))
	if err := rt.Check(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	pred, err := program.Run(t.Context(), rt, in{
		When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Data: []byte{0, 1, 255}, Label: "good",
		More: map[string]any{"n": 1, "deep": []any{true, nil, "x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := out{
		Then: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), List: []place{{"Köln", []string{"a"}}},
		Count: 9007199254740993, Share: 0.25, Sure: true, Class: "bad", Sizes: map[string]int{"x": 1},
	}
	if diff := cmp.Diff(want, pred.Output); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}
