package scripted_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(text string) *lm.Request {
	return &lm.Request{Model: "go/x", Messages: []lm.Message{lm.User(lm.Text(text))}}
}

func complete(tb testing.TB, m lm.Model, text string) string {
	tb.Helper()
	resp, err := m.Complete(tb.Context(), ask(text))
	if err != nil {
		tb.Fatal(err)
	}
	return resp.Text()
}

func TestAListGivesItsAnswersInOrderAndThenSaysThatItIsUsedUp(t *testing.T) {
	m := scripted.List("one", "two")
	if got := complete(t, m, "a") + complete(t, m, "b"); got != "onetwo" {
		t.Errorf("got %q", got)
	}
	_, err := m.Complete(t.Context(), ask("c"))
	e, ok := errors.AsType[*lm.Error](err)
	if !ok || e.Kind != lm.KindProvider || e.Code != "exhausted" || e.Retryable() {
		t.Fatalf("got %#v", err)
	}
	if want := "the script has 2 answers and this is request 3"; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
	if m.Calls() != 3 || len(m.Requests()) != 3 || m.Requests()[2].Messages[0].Parts[0].Text != "c" {
		t.Errorf("%d calls, requests %v", m.Calls(), m.Requests())
	}
}

func TestConcurrentRequestsShareTheListWithoutLossOrRepetition(t *testing.T) {
	const n = 100
	answers := make([]string, n)
	for i := range answers {
		answers[i] = fmt.Sprint(i)
	}
	m := scripted.List(answers...)
	got := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i] = complete(t, m, "q") })
	}
	wg.Wait()
	slices.Sort(got)
	slices.Sort(answers)
	if diff := cmp.Diff(answers, got); diff != "" {
		t.Error(diff)
	}
}

func TestARuleFitsByTheLastMessageOnly(t *testing.T) {
	m := scripted.Match(
		scripted.Rule{Match: "Paris", Step: scripted.Step{Text: "p"}},
		scripted.Rule{Match: "Rome", Step: scripted.Step{Err: lm.Errorf(lm.KindRateLimit, "x", "slow")}},
	)
	req := &lm.Request{Messages: []lm.Message{lm.User(lm.Text("Rome")), lm.User(lm.Text("to "), lm.Text("Paris"))}}
	resp, err := m.Complete(t.Context(), req)
	if err != nil || resp.Text() != "p" {
		t.Errorf("got %v, %v", resp, err)
	}
	if _, err := m.Complete(t.Context(), ask("Rome")); lm.KindOf(err) != lm.KindRateLimit {
		t.Errorf("got %v", err)
	}
	if _, err := m.Complete(t.Context(), ask("Oslo")); lm.KindOf(err) != lm.KindProvider {
		t.Errorf("got %v", err)
	}
}

func TestAFunctionsOwnErrorKeepsItsIdentity(t *testing.T) {
	mine := errors.New("mine")
	m := scripted.Func(func(context.Context, *lm.Request) (string, error) { return "", mine })
	_, err := m.Complete(t.Context(), ask("x"))
	if !errors.Is(err, mine) || lm.KindOf(err) != lm.KindUnexpected {
		t.Errorf("got %v", err)
	}
}

func TestWhatAResponseLeavesOutIsFilledIn(t *testing.T) {
	given := &lm.Response{Message: lm.Message{Parts: []lm.Part{lm.Refusal("no")}}}
	m := scripted.New(scripted.Config{
		Answer: scripted.Steps(scripted.Step{Response: given}),
		Usage:  lm.Usage{InputTokens: 2, OutputTokens: 3},
	})
	got, err := m.Complete(t.Context(), ask("x"))
	if err != nil {
		t.Fatal(err)
	}
	want := &lm.Response{
		Model: "go/x", Message: lm.Assistant(lm.Refusal("no")), FinishReason: lm.FinishStop,
		Usage: lm.Usage{InputTokens: 2, OutputTokens: 3, TotalTokens: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if given.Model != "" {
		t.Error("the script's own response was changed")
	}
}

func TestAStreamComesWordByWordAndAddsUpToTheWholeAnswer(t *testing.T) {
	const text = "two  words\nand more"
	m := scripted.New(scripted.Config{
		Answer: scripted.Rules(scripted.Rule{Step: scripted.Step{Text: text}}),
		Usage:  lm.Usage{InputTokens: 1, OutputTokens: 4},
	})
	var pieces []string
	for e, err := range m.Stream(t.Context(), ask("x")) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Delta != nil {
			pieces = append(pieces, e.Delta.Text)
		}
	}
	if diff := cmp.Diff([]string{"two ", " ", "words\n", "and ", "more"}, pieces); diff != "" {
		t.Error(diff)
	}
	streamed, err := lm.Collect("", m.Stream(t.Context(), ask("x")))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := m.Complete(t.Context(), ask("x"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole, streamed); diff != "" {
		t.Error(diff)
	}
}

func TestAStreamThatIsLeftEarlyOrFailsEnds(t *testing.T) {
	m := scripted.List("a b c")
	n := 0
	for _, err := range m.Stream(t.Context(), ask("x")) {
		if err != nil {
			t.Error(err)
		}
		if n++; n == 2 {
			break
		}
	}
	var failures []error
	for _, err := range m.Stream(t.Context(), ask("x")) {
		failures = append(failures, err)
	}
	if len(failures) != 1 || lm.KindOf(failures[0]) != lm.KindProvider {
		t.Errorf("got %v", failures)
	}
}

func TestLatencyPassesAndEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := scripted.New(scripted.Config{
			Answer:  scripted.Rules(scripted.Rule{Step: scripted.Step{Text: "a"}}),
			Latency: 200 * time.Millisecond,
		})
		start := time.Now()
		complete(t, m, "x")
		if d := time.Since(start); d != 200*time.Millisecond {
			t.Errorf("took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := m.Complete(ctx, ask("x"))
		if d := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || d != 250*time.Millisecond {
			t.Errorf("got %v after %v", err, d)
		}
	})
}

func TestOnlyTheLatestRequestsAreKept(t *testing.T) {
	m := scripted.New(scripted.Config{
		Answer: scripted.Rules(scripted.Rule{Step: scripted.Step{Text: "a"}}), Keep: 2,
	})
	for _, q := range []string{"1", "2", "3"} {
		complete(t, m, q)
	}
	var got []string
	for _, r := range m.Requests() {
		got = append(got, r.Messages[0].Parts[0].Text)
	}
	if m.Calls() != 3 || strings.Join(got, "") != "23" {
		t.Errorf("%d calls, kept %v", m.Calls(), got)
	}
}

func script(tb testing.TB, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "answers.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestAFileHoldsAnArrayOrOneValuePerLine(t *testing.T) {
	for name, content := range map[string]string{
		"array": `[ "one", {"match": "Rome", "answer": {"a": [1]}},
		            "two", {"match": "Oslo", "answer": "o"} ]`,
		"lines": "\"one\"\n{\"match\":\"Rome\",\"answer\":{\"a\": [1]}}\r\n\n\"two\"\n{\"match\":\"Oslo\",\"answer\":\"o\"}",
	} {
		t.Run(name, func(t *testing.T) {
			m, err := scripted.File(script(t, content))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, q := range []string{"to Rome", "x", "Oslo?", "Rome", "y"} {
				got = append(got, complete(t, m, q))
			}
			if diff := cmp.Diff([]string{`{"a": [1]}`, "one", "o", `{"a": [1]}`, "two"}, got); diff != "" {
				t.Error(diff)
			}
			if _, err := m.Complete(t.Context(), ask("z")); lm.KindOf(err) != lm.KindProvider {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAFileThatCannotBeUsedIsNamedWithTheLine(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"empty":             {"", "line 1: it holds no answers"},
		"no json":           {"\"ok\"\nhello\n", "line 2"},
		"number":            {"[\n\"a\",\n3\n]", "line 3"},
		"unknown key":       {"{\"match\":\"a\",\"answer\":\"b\"}\n{\"match\":\"a\",\"answr\":\"b\"}", "line 2"},
		"half a rule":       {`{"match":"a"}`, "line 1: a rule needs"},
		"two on a line":     {`{"match":"a","answer":"b"} "c"`, "line 1: more than one value"},
		"broken array":      {"[\n\"a\"\n\"b\"]", "line 3"},
		"array without end": {"[\"a\",\n\"b\"", "line 2"},
		"text after it":     {"[\"a\"]\n\"b\"", "line 2: text after"},
	} {
		t.Run(name, func(t *testing.T) {
			path := script(t, tc.content)
			_, err := scripted.File(path)
			if lm.KindOf(err) != lm.KindNotConfigured {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v does not say %q of %s", err, tc.want, path)
			}
		})
	}
	_, err := scripted.File(filepath.Join(t.TempDir(), "missing.json"))
	if lm.KindOf(err) != lm.KindNotConfigured || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "missing.json") {
		t.Errorf("got %v", err)
	}
}
