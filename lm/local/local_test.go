//go:build unix

package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/local"
)

// hostVariable makes the test binary be a host with a model, which waits to be killed.
const hostVariable = "DSPEX_TEST_LOCAL_HOST"

func TestMain(m *testing.M) {
	if os.Getenv(hostVariable) != "" {
		host()
		return
	}
	goleak.VerifyTestMain(m)
}

// host starts a model, tells its process id, and waits for the end of its input.
func host() {
	m, err := local.Open(context.Background(), local.Config{})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	fmt.Fprintln(os.Stdout, m.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// open starts the real model. The first time on a machine that needs the network.
func open(tb testing.TB) *local.Model {
	tb.Helper()
	m, err := local.Open(tb.Context(), local.Config{Progress: func(p local.Progress) { tb.Log(p) }})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return m
}

func ask(text string) *lm.Request {
	return &lm.Request{
		Model: "go/default", Messages: []lm.Message{lm.User(lm.Text(text))},
		Config: lm.Config{MaxTokens: new(24)},
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestTheModelAnswersTheSameEachTime(t *testing.T) {
	m := open(t)
	first, err := m.Complete(t.Context(), ask("Name the capital of France."))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(first.Text(), "Paris") || first.Model != local.Name || first.Usage.OutputTokens == 0 {
		t.Errorf("got %+v", first)
	}
	streamed, err := lm.Collect("", m.Stream(t.Context(), ask("Name the capital of France.")))
	if err != nil {
		t.Fatal(err)
	}
	if streamed.Text() != first.Text() || streamed.Usage.TotalTokens != first.Usage.TotalTokens {
		t.Errorf("%q, then %q", first.Text(), streamed.Text())
	}
}

func TestAnAnswerFollowsTheSchema(t *testing.T) {
	m := open(t)
	if c := lm.CapabilitiesOf(m, "any"); !c.ResponseSchema || c.FunctionCalling {
		t.Errorf("claims %+v", c)
	}
	req := ask("Maria Lopez, 34, is a nurse.")
	req.Config.MaxTokens = new(80)
	req.Config.ResponseFormat = &lm.ResponseFormat{
		Type: lm.FormatJSONSchema, Name: "Person", Strict: new(true), Schema: json.RawMessage(`{"type":"object",
			"properties":{"name":{"type":"string"},"age":{"type":"integer"},"job":{"enum":["nurse","pilot"]}},
			"required":["name","age","job"],"additionalProperties":false}`),
	}
	resp, err := m.Complete(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var person struct {
		Name string
		Age  int
		Job  string
	}
	d := json.NewDecoder(strings.NewReader(resp.Text()))
	d.DisallowUnknownFields()
	if err := d.Decode(&person); err != nil || person.Age != 34 || person.Job != "nurse" {
		t.Errorf("%s: %+v, %v", resp.Text(), person, err)
	}
}

func TestRequestsAreServedTogetherAndCanBeCanceled(t *testing.T) {
	m := open(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := m.Complete(t.Context(), ask("Say hello.")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// Two requests without end take both slots; once canceled they give them back.
	endless := ask("Count from one to one million.")
	endless.Config = lm.Config{MaxTokens: new(3000), Temperature: new(1.0)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan struct{}, 2)
	for range 2 {
		wg.Go(func() {
			var last error
			for e, err := range m.Stream(ctx, endless) {
				if e.Type == lm.EventStart {
					started <- struct{}{}
				}
				last = err
			}
			if !errors.Is(last, context.Canceled) {
				t.Errorf("got %v", last)
			}
		})
	}
	<-started
	<-started
	cancel()
	wg.Wait()
	bounded, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	if _, err := m.Complete(bounded, ask("Say hello.")); err != nil {
		t.Errorf("the slots were not given back: %v", err)
	}
}

func TestADeadProcessIsATypedErrorAndTheNextRequestStartsItAgain(t *testing.T) {
	m := open(t)
	pid := m.PID()
	endless := ask("Count from one to one million.")
	endless.Config = lm.Config{MaxTokens: new(3000), Temperature: new(1.0)}
	var last error
	for e, err := range m.Stream(t.Context(), endless) {
		if e.Type == lm.EventStart {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		last = err
	}
	if e, ok := errors.AsType[*lm.Error](last); !ok || e.Kind != lm.KindTransport || !strings.Contains(e.Message, "SIGKILL") {
		t.Errorf("got %v", last)
	}
	if _, err := m.Complete(t.Context(), ask("Say hello.")); err != nil {
		t.Fatal(err)
	}
	if again := m.PID(); again == pid || again == 0 || !gone(pid) {
		t.Errorf("pid %d, then %d", pid, again)
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	m := open(t)
	pid := m.PID()
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Errorf("the second close: %v", err)
	}
	if !gone(pid) || m.PID() != 0 {
		t.Errorf("process %d is left", pid)
	}
	if _, err := m.Complete(t.Context(), ask("Hello?")); lm.KindOf(err) != lm.KindNotConfigured || status.CodeOf(err) != status.Closed {
		t.Errorf("got %v", err)
	}
}

func TestARequestThatIsTooLongIsAContextError(t *testing.T) {
	m := open(t)
	_, err := m.Complete(t.Context(), ask(strings.Repeat("word ", 5000)))
	if lm.KindOf(err) != lm.KindContextLength {
		t.Errorf("got %v", err)
	}
}

func TestAStartThatIsCanceledLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m, err := local.Open(ctx, local.Config{})
	if m != nil || status.CodeOf(err) != status.Canceled {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestWeightsThatCannotBeServedAreExplained(t *testing.T) {
	path := t.TempDir() + "/broken.gguf"
	if err := os.WriteFile(path, []byte("GGUF no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ path, says string }{
		"missing": {path + ".missing", "there is no file"},
		"broken":  {path, "broken.gguf"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := local.Open(t.Context(), local.Config{Weights: tc.path})
			if m != nil || status.CodeOf(err) != status.Unavailable || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, %v", m, err)
			}
		})
	}
}

func TestALazyModelReportsItsFailureWithTheFirstRequest(t *testing.T) {
	m, err := local.Open(t.Context(), local.Config{Lazy: true, Weights: "/nowhere.gguf"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	_, err = m.Complete(t.Context(), ask("Hello?"))
	if lm.KindOf(err) != lm.KindNotConfigured || !strings.Contains(err.Error(), "nowhere.gguf") {
		t.Errorf("got %v", err)
	}
}

func TestNobodyElseCanUseTheServer(t *testing.T) {
	m := open(t)
	for _, path := range []string{"/v1/chat/completions", "/completion", "/props", "/slots", "/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, local.Address(m)+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
}
