package dspex_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// hostVariable makes the test binary a host that is to be killed, see host_test.go.
const hostVariable = "TEST_DSPEX_HOST"

func TestMain(m *testing.M) {
	if os.Getenv(hostVariable) != "" {
		os.Exit(host())
	}
	goleak.VerifyTestMain(m)
}

// full says whether the fault tests run with their full counts and thresholds.
func full() bool { return os.Getenv("DSPEX_FAULTS") == "full" }

// rounds is n in the full form and a hundredth of it, but at least least, in the short one.
func rounds(n, least int) int {
	if full() {
		return n
	}
	return max(n/100, least)
}

// within is d in the full form and ten times as much in the short one.
func within(d time.Duration) time.Duration {
	if full() {
		return d
	}
	return 10 * d
}

type question struct {
	Question string `json:"question" dspy:"a trivia question"`
}

type answer struct {
	Answer string `json:"answer" dspy:"one or two words"`
}

// completion is what a model answers to a program with the one output "answer" through
// the chat adapter.
func completion(text string) string {
	return "[[ ## answer ## ]]\n" + text + "\n\n[[ ## completed ## ]]"
}

// echoing answers every question with the question itself, so that an answer that
// belongs to another call is noticed.
func echoing() *scripted.Model {
	return scripted.Func(func(_ context.Context, req *lm.Request) (string, error) {
		return completion(asked(req)), nil
	})
}

// asked returns the question that a request of the chat adapter carries.
func asked(req *lm.Request) string {
	text := textOf(req.Messages[len(req.Messages)-1])
	_, text, _ = strings.Cut(text, "[[ ## question ## ]]\n")
	text, _, _ = strings.Cut(text, "\n\nRespond with")
	return text
}

// textOf joins the text of a message.
func textOf(m lm.Message) string {
	var b strings.Builder
	for _, part := range m.Parts {
		b.WriteString(part.Text)
	}
	return b.String()
}

// open opens a Runtime for one test and closes it at the end.
func open(tb testing.TB, config dspex.Config) *dspex.Runtime {
	tb.Helper()
	rt, err := dspex.Open(tb.Context(), config)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	closeLater(tb, rt)
	return rt
}

// openDebug does the same with workers that misbehave on request.
func openDebug(tb testing.TB, config dspex.Config, environ ...string) *dspex.Runtime {
	tb.Helper()
	rt, err := dspex.OpenDebug(tb.Context(), config, environ...)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	closeLater(tb, rt)
	return rt
}

func closeLater(tb testing.TB, rt *dspex.Runtime) {
	tb.Helper()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := rt.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
}

// logs is a writer for slog that tests read.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
	has map[string]chan struct{}
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.buf.Write(p)
	for text, seen := range l.has {
		if strings.Contains(l.buf.String(), text) {
			close(seen)
			delete(l.has, text)
		}
	}
	return n, err
}

// wait returns when text has been logged.
func (l *logs) wait(tb testing.TB, text string) {
	tb.Helper()
	l.mu.Lock()
	seen := make(chan struct{})
	if strings.Contains(l.buf.String(), text) {
		close(seen)
	} else {
		if l.has == nil {
			l.has = make(map[string]chan struct{})
		}
		l.has[text] = seen
	}
	l.mu.Unlock()
	select {
	case <-seen:
	case <-time.After(10 * time.Second):
		tb.Fatalf("%q was not logged; the log is:\n%s", text, l)
	}
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// children lists the processes whose parent is this one, dead but unreaped ones too.
func children(tb testing.TB) []int {
	tb.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		tb.Fatalf("no list of children in /proc: %v", err)
	}
	var pids []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil { // The thread has ended.
			continue
		}
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				tb.Fatalf("%s: %v", list, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// descriptors describes every open file of this process, by number.
func descriptors(tb testing.TB) map[string]string {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	open := make(map[string]string)
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil { // The one that listed the directory.
			continue
		}
		open[e.Name()] = target
	}
	return open
}

// ask runs program and checks that the answer is that of its own question.
func ask(ctx context.Context, rt *dspex.Runtime, program *dspex.Program[question, answer], text string) error {
	pred, err := program.Run(ctx, rt, question{text})
	if err != nil {
		return err
	}
	if pred.Output.Answer != text {
		return fmt.Errorf("the answer to %q is %q", text, pred.Output.Answer)
	}
	return nil
}
