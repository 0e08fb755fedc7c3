//go:build linux

package dspex_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// Slow calls on workers of their own take about the time of one: all of them are with the
// model at once.
func TestFault_A1_SlowCallsRunTogether(t *testing.T) {
	parallel(t)
	const workers = 16
	latency := 100 * time.Millisecond
	if full() {
		latency = 2 * time.Second
	}
	model := scripted.New(scripted.Config{
		Latency: latency,
		Answer: func(_ context.Context, req *lm.Request) (*lm.Response, error) {
			return scripted.Text(completion(asked(req))), nil
		},
	})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: workers, Max: workers, Slots: 1}})
	program := dspex.Predict[question, answer]("")
	together := func(n int) time.Duration {
		start := time.Now()
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				if err := ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		return time.Since(start)
	}
	one, all := together(1), together(workers)
	t.Logf("one call takes %v, %d take %v", one, workers, all)
	if limit := within(one * 5 / 4); all > limit {
		t.Errorf("%d calls took %v, want at most %v", workers, all, limit)
	}
}

// Callers that cancel, run out of time, leave a batch or end their goroutine change
// nothing about the workers.
func TestFault_A2_CallersThatLeaveChangeNothing(t *testing.T) {
	parallel(t)
	waiting := make(chan struct{}, 64)
	model := scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		if text := asked(req); text != "wait" {
			return completion(text), nil
		}
		waiting <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 2, Slots: 4}})
	program := dspex.Predict[question, answer]("")
	before := rt.Stats()
	leave := []func(){
		func() { // It cancels.
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-waiting; cancel() }()
			if _, err := program.Run(ctx, rt, question{"wait"}); !errors.Is(err, context.Canceled) {
				t.Errorf("a canceled call: %v", err)
			}
		},
		func() { // Its time is up.
			_, err := program.Run(t.Context(), rt, question{"wait"}, dspex.WithTimeout(5*time.Millisecond))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a call with a deadline: %v", err)
			}
		},
		func() { // It has enough after the first result.
			for range program.Batch(t.Context(), rt, []question{{"a"}, {"wait"}, {"wait"}}) {
				break
			}
		},
		func() { // Its goroutine ends while another one calls for it.
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = program.Run(ctx, rt, question{"wait"})
			}()
			go func() {
				defer cancel()
				<-waiting
				runtime.Goexit()
			}()
			<-done
		},
	}
	for range rounds(1_000, 5) {
		for _, f := range leave {
			f()
			for len(waiting) > 0 { // Those that nobody took notice of.
				<-waiting
			}
			if err := ask(t.Context(), rt, program, "still there?"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := rt.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := rt.Stats()
	if !slices.Equal(pids(before), pids(after)) || after.Started != before.Started || after.Lost != 0 || after.Slots != 8 {
		t.Errorf("the pool has changed:\n%+v, before\n%+v", after, before)
	}
}

// pids lists the processes of the workers.
func pids(stats dspex.Stats) (pids []int) {
	for _, w := range stats.Workers {
		pids = append(pids, w.PID)
	}
	slices.Sort(pids)
	return pids
}

// A model that panics, or that ends its goroutine, is the error of its call.
func TestFault_C9_PanicIsItsCallsError(t *testing.T) {
	parallel(t)
	held := newCounting(8)
	panics := func(f func()) lm.Model {
		return scripted.Func(func(context.Context, *lm.Request) (string, error) { f(); return "", nil })
	}
	rt := open(t, dspex.Config{
		LM: held.model(),
		LMs: map[string]lm.Model{
			"value":  panics(func() { panic("a value") }),
			"error":  panics(func() { panic(errors.New("an error")) }),
			"zero":   panics(func() { zero := 0; _ = 1 / zero }),
			"exit":   panics(runtime.Goexit),
			"abort":  panics(func() { panic(new(unprintable)) }),
			"answer": echoing(),
		},
		Settings: dspex.Settings{Max: 1},
	})
	program := dspex.Predict[question, answer]("")
	others := make(chan error, 8)
	for i := range 8 {
		go func() { others <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
		<-held.arrived
	}
	for name, says := range map[string]string{
		"value": "a value", "error": "an error", "zero": "divide by zero", "exit": "ended its goroutine", "abort": "panicked",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM(name))
			if code := dspex.CodeOf(err); code != dspex.CodeInternal || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want internal that says %q", err, says)
			}
			if _, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM("answer")); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
	close(held.release)
	for range 8 {
		if err := <-others; err != nil {
			t.Errorf("another call: %v", err)
		}
	}
	if stats := rt.Stats(); stats.Lost != 0 || stats.Started != 1 {
		t.Errorf("the worker was replaced: %+v", stats)
	}
}

// unprintable panics when it is printed.
type unprintable struct{}

func (*unprintable) String() string { panic("once more") }

// Attachments of any size pass, and nobody waits for them.
func TestFault_A10_LargeAttachmentDelaysNobody(t *testing.T) {
	parallel(t)
	size := 24 << 20 // Beyond what is kept in memory.
	if full() {
		size = 500 << 20
	}
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Max: 1}})
	program := dspex.Predict[question, answer]("")
	large := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(large)
	passed := make(chan error, 1)
	go func() {
		back, err := dspex.Echo(t.Context(), rt, [][]byte{large, nil, large[:1]})
		switch {
		case err != nil:
		case len(back) != 3 || !bytes.Equal(back[0], large) || len(back[1]) != 0 || !bytes.Equal(back[2], large[:1]):
			err = errors.New("other bytes came back")
		}
		passed <- err
	}()
	// Calls go on meanwhile, on the same worker.
	during := 0
	for done := false; !done; during++ {
		if err := ask(t.Context(), rt, program, "small"); err != nil {
			t.Fatalf("a small call: %v", err)
		}
		select {
		case err := <-passed:
			if err != nil {
				t.Fatalf("the large attachment: %v", err)
			}
			done = true
		default:
		}
	}
	t.Logf("%d calls passed meanwhile", during)
	if during < 3 {
		t.Errorf("%d calls passed while the large attachment was under way", during)
	}

	// Over the limit, here by many small ones that share their memory.
	part := large[:16<<20]
	over := slices.Repeat([][]byte{part}, 1<<30/len(part)+1)
	if _, err := dspex.Echo(t.Context(), rt, over); dspex.CodeOf(err) != dspex.CodeInvalidArgument {
		t.Errorf("attachments over the limit: %v, want invalid_argument", err)
	}
	if err := ask(t.Context(), rt, program, "still there?"); err != nil {
		t.Error(err)
	}
	if stats := rt.Stats(); stats.Lost != 0 || stats.Started != 1 {
		t.Errorf("workers were replaced: %+v", stats)
	}
}

// Tiny calls in great number pass, each with its own answer.
func TestFault_A10_TinyCallsPass(t *testing.T) {
	parallel(t)
	n := rounds(100_000, 500)
	model := scripted.New(scripted.Config{Keep: -1, Answer: func(_ context.Context, req *lm.Request) (*lm.Response, error) {
		return scripted.Text(completion(asked(req))), nil
	}})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 2}})
	ins := make([]question, n)
	for i := range ins {
		ins[i].Question = fmt.Sprint(i)
	}
	seen := 0
	for r := range dspex.Predict[question, answer]("").Batch(t.Context(), rt, ins, dspex.Concurrency(100)) {
		if r.Err != nil {
			t.Fatalf("call %d: %v", r.Index, r.Err)
		}
		if r.Prediction.Output.Answer != ins[r.Index].Question {
			t.Fatalf("call %d got the answer %q", r.Index, r.Prediction.Output.Answer)
		}
		seen++
	}
	if seen != n || model.Calls() != n {
		t.Errorf("%d results and %d requests of %d calls", seen, model.Calls(), n)
	}
}

// A line of 10 MB on stderr passes while calls go on; the log has its beginning.
func TestFault_A10_LongLineDelaysNobody(t *testing.T) {
	parallel(t)
	var log logs
	rt := openDebug(t, dspex.Config{LM: echoing(), Logger: log.logger(), Settings: dspex.Settings{Max: 1}})
	program := dspex.Predict[question, answer]("")
	printed := make(chan error, 1)
	go func() {
		text := "long line " + strings.Repeat("x", 10<<20)
		_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "print", "stderr": 1, "text": text})
		printed <- err
	}()
	for i := range 20 {
		if err := ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-printed; err != nil {
		t.Error(err)
	}
	log.wait(t, "long line xxx")
	if stats := rt.Stats(); stats.Lost != 0 {
		t.Errorf("the worker was lost: %+v", stats)
	}
}

// Callers see nothing of each other: no state, history, trace, demonstration or model.
func TestFault_F2_CallersSeeNothingOfEachOther(t *testing.T) {
	parallel(t)
	const callers = 8
	n := rounds(10_000, 160)
	// Each caller has a model of its own, which is asked nothing but what it may see.
	models := make(map[string]lm.Model)
	for c := range callers {
		name := fmt.Sprintf("caller%d", c)
		own := "[" + name + "]"
		models[name] = scripted.Func(func(_ context.Context, req *lm.Request) (string, error) {
			var all strings.Builder
			for _, part := range req.SystemParts {
				all.WriteString(part.Text)
			}
			all.WriteString(req.System)
			for _, m := range req.Messages {
				all.WriteString(textOf(m))
			}
			text := all.String()
			if strings.Count(text, "[caller") != strings.Count(text, own) {
				t.Errorf("%s was shown: %s", name, text)
			}
			if want := 1 + 2*(c%2); len(req.Messages) != want {
				t.Errorf("%s was sent %d messages, want %d: %s", name, len(req.Messages), want, text)
			}
			if req.Config.Temperature == nil || *req.Config.Temperature != float64(c)/16 {
				t.Errorf("%s was asked with the settings %+v", name, req.Config)
			}
			if c%4 < 2 {
				return completion(asked(req)), nil
			}
			return "[[ ## reasoning ## ]]\nbecause " + asked(req) + "\n\n" + completion(asked(req)), nil
		})
	}
	rt := open(t, dspex.Config{LMs: models, Settings: dspex.Settings{Max: 1}})
	predict, think := dspex.Predict[question, answer](""), dspex.ChainOfThought[question, answer]("")
	var calls sync.WaitGroup
	for c := range callers {
		calls.Go(func() {
			name := fmt.Sprintf("caller%d", c)
			opts := []dspex.CallOption{dspex.WithLM(name), dspex.WithTemperature(float64(c) / 16)}
			program := predict
			demo := dspex.Values{"question": "a demo for [" + name + "]", "answer": "shown to [" + name + "]"}
			if c%4 >= 2 {
				program = think
				demo["reasoning"] = "[" + name + "]"
			}
			if c%2 == 1 {
				opts = append(opts, dspex.WithDemos(demo))
			}
			for i := range n / callers {
				text := fmt.Sprintf("question %d of [%s]", i, name)
				pred, err := program.Run(t.Context(), rt, question{text}, opts...)
				switch {
				case err != nil:
					t.Errorf("%s: %v", text, err)
				case pred.Output.Answer != text || (c%4 >= 2) != (pred.Reasoning == "because "+text):
					t.Errorf("%s: got %+v", text, pred)
				case len(pred.Calls) != 1 || pred.Calls[0].Model != name:
					t.Errorf("%s: the calls were %+v", text, pred.Calls)
				}
			}
		})
	}
	calls.Wait()
}

// Model and adapter are chosen by each call and reach every worker, also those that come
// later; nothing is configured anywhere.
func TestFault_F3_ModelAndAdapterAreChosenPerCall(t *testing.T) {
	parallel(t)
	// Each model understands one format only.
	speaks := func(mark, reply string) lm.Model {
		return scripted.Func(func(_ context.Context, req *lm.Request) (string, error) {
			text := req.System
			for _, part := range req.SystemParts {
				text += part.Text
			}
			for _, m := range req.Messages {
				text += textOf(m)
			}
			if !strings.Contains(text, mark) {
				return "", lm.Errorf(lm.KindInvalidRequest, "test", "%q is not in %s", mark, text)
			}
			return reply, nil
		})
	}
	adapters := []string{"chat", "json", "xml"}
	rt := open(t, dspex.Config{
		LMs: map[string]lm.Model{
			"chat": speaks("[[ ## answer ## ]]\n{answer}", completion("chat")),
			"json": speaks("JSON object", `{"answer": "json"}`),
			"xml":  speaks("<answer>", "<answer>xml</answer>"),
		},
		Settings: dspex.Settings{Min: 3, Max: 3, Slots: 1, Queue: 3_000},
	})
	program := dspex.Predict[question, answer]("")
	everywhere := func() {
		t.Helper()
		var (
			calls sync.WaitGroup
			mu    sync.Mutex
			seen  = make(map[string]bool)
		)
		for i := range rounds(3_000, 45) {
			calls.Go(func() {
				name := adapters[i%len(adapters)]
				pred, err := program.Run(t.Context(), rt, question{"Who?"}, dspex.WithLM(name), dspex.WithAdapter(name))
				if err != nil || pred.Output.Answer != name {
					t.Errorf("%s: got %+v, %v", name, pred, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[pred.Worker.ID] = true
			})
		}
		calls.Wait()
		if len(seen) != 3 {
			t.Errorf("only %d of 3 workers had calls", len(seen))
		}
	}
	everywhere()
	if err := rt.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	everywhere()
}
