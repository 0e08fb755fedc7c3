package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
)

// answers writes a script of model answers, one JSON value per line.
func answers(tb testing.TB, lines ...string) string {
	tb.Helper()
	return "scripted:" + file(tb, "answers.jsonl", strings.Join(lines, "\n")+"\n")
}

const (
	mariaAnswer = `"[[ ## name ## ]]\nMaria Lopez\n\n[[ ## age ## ]]\n34\n\n[[ ## completed ## ]]"`
	parisAnswer = `"[[ ## reasoning ## ]]\nIt is well known.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"`
)

func TestRunPrintsALineForEachOutput(t *testing.T) {
	got := dspexCommand(t, `{"text": "Maria Lopez, 34, is a nurse."}`, nil, "run", "--lm", answers(t, mariaAnswer),
		"text -> name: str, age: int", "--input", "-")
	if got.code != exitOK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	if want := "name: Maria Lopez\nage: 34\n"; got.stdout != want {
		t.Errorf("output is %q, want %q", got.stdout, want)
	}
}

func TestRunPrintsOneJSONValue(t *testing.T) {
	got := dspexCommand(t, "", nil, "run", "--json", "--module", "cot", "--lm", answers(t, parisAnswer), "question -> answer", "question=Capital of France?")
	if got.code != exitOK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("output is %q: %v", got.stdout, err)
	}
	if diff := cmp.Diff(map[string]any{"answer": "Paris"}, out["output"]); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if out["reasoning"] != "It is well known." {
		t.Errorf("reasoning is %v", out["reasoning"])
	}
	calls, _ := out["calls"].([]any)
	worker, _ := out["worker"].(map[string]any)
	timing, _ := out["timing"].(map[string]any)
	if len(calls) != 1 || worker["id"] == "" || worker["pid"] == 0.0 || timing["total_ms"] == 0.0 || timing["queue_ms"] == nil || out["usage"] == nil {
		t.Errorf("calls %v, worker %v, timing %v, usage %v", calls, worker, timing, out["usage"])
	}
}

func TestInputsComeFromAFileStandardInputAndArguments(t *testing.T) {
	signature, err := dspex.ParseSignature("context: list[str], question, n: Optional[int] -> answer")
	if err != nil {
		t.Fatal(err)
	}
	object := `{"context": ["a", "b"], "question": "7"}`
	both := dspex.Values{"context": []any{"a", "b"}, "question": "7"}
	for name, tc := range map[string]struct {
		input string
		pairs []string
		want  dspex.Values
	}{
		"a file":         {file(t, "in.json", object), nil, both},
		"standard input": {"-", nil, both},
		"arguments":      {"", []string{`context=["a", "b"]`, "question=7"}, both},
		"an argument over a file": {
			file(t, "in.json", `{"context": ["c"], "question": "7"}`), []string{`context=["a","b"]`}, both,
		},
		"every digit of a number": {
			"",
			[]string{`context=[]`, "question=a=b", "n=123456789012345678901"},
			dspex.Values{"context": []any{}, "question": "a=b", "n": json.Number("123456789012345678901")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{std: streams{in: strings.NewReader(object)}}
			got, err := a.readInputs(signature, tc.input, tc.pairs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheValueOfATextIsTakenAsItIsAndAnyOtherIsJSONOrABareWord(t *testing.T) {
	signature, err := dspex.ParseSignature("s, o: Optional[str], i: int, f: float, b: bool, d: date, " +
		"w: Literal['1', '2'], k: Literal[1, 2], l: list[str], u: Union[int, str] -> answer")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, raw string
		want      any
	}{
		{"s", `{"a": 1}`, `{"a": 1}`},
		{"s", "12", "12"},
		{"o", "12", "12"},
		{"i", "12", json.Number("12")},
		{"i", "twelve", "twelve"},
		{"f", "1e3", json.Number("1e3")},
		{"b", "true", true},
		{"d", "2026-01-02", "2026-01-02"},
		{"w", "1", "1"},
		{"k", "1", json.Number("1")},
		{"l", `["a"]`, []any{"a"}},
		{"u", "12", json.Number("12")},
		{"u", "twelve", "twelve"},
	} {
		field, _ := signature.Field(tc.name)
		if diff := cmp.Diff(tc.want, inputValue(&field.Schema, tc.raw)); diff != "" {
			t.Errorf("%s=%s (-want +got):\n%s", tc.name, tc.raw, diff)
		}
	}
}

func TestAnAnswerThatCannotBeReadIsAFailureThatShowsIt(t *testing.T) {
	got := dspexCommand(t, "", nil, "run", "--json", "--adapter", "json", "--lm", answers(t, `"I will not."`), "text -> age: int", "text=x")
	var out struct{ Error failureText }
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("output is %q: %v", got.stdout, err)
	}
	if got.code != exitFailure || out.Error.Code != "parse_failed" || out.Error.Completion != "I will not." {
		t.Errorf("exit code %d, error %+v", got.code, out.Error)
	}
	if strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("standard error is %q, want one line", got.stderr)
	}
}

type failureText struct{ Code, Completion string }

func TestAProviderThatCannotBeReachedIsAFailure(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // Nobody listens there any more.
	got := dspexCommand(t, "", nil, "run", "--json", "--lm", "openai/m", "--base-url", server.URL+"/v1", "a -> b", "a=1")
	if code, _ := failure(t, got); got.code != exitFailure || code != "lm" {
		t.Errorf("exit code %d, code %s, standard error %q", got.code, code, got.stderr)
	}
}

func TestATimeOutEndsTheCall(t *testing.T) {
	server := silent(t)
	got := dspexCommand(t, "", nil, "run", "--json", "--timeout", "50ms", "--lm", "openai/m", "--base-url", server.url, "a -> b", "a=1")
	if code, _ := failure(t, got); got.code != exitFailure || code != "deadline_exceeded" {
		t.Errorf("exit code %d, code %s, standard error %q", got.code, code, got.stderr)
	}
}

// silentServer is a provider that takes requests and does not answer them.
type silentServer struct {
	url   string
	asked chan struct{} // closed with the first request
}

func silent(tb testing.TB) *silentServer {
	tb.Helper()
	s := &silentServer{asked: make(chan struct{})}
	first := make(chan struct{}, 1)
	first <- struct{}{}
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-first:
			close(s.asked)
		default:
		}
		select {
		case <-r.Context().Done():
		case <-end:
		}
	}))
	tb.Cleanup(func() {
		close(end)
		server.Close()
	})
	s.url = server.URL + "/v1"
	return s
}

func TestDoctorFindsAWorkingMachine(t *testing.T) {
	got := dspexCommand(t, "", nil, "doctor", "--json")
	var out doctorJSON
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("output is %q: %v", got.stdout, err)
	}
	states := make(map[string]string)
	for _, c := range out.Checks {
		states[c.Name] = c.State
		if c.State != "ok" && c.Remedy == "" && c.State != stateUnknown {
			t.Errorf("%s is %s without a remedy", c.Name, c.State)
		}
	}
	if out.OK != (got.code == exitOK) {
		t.Errorf("ok is %t, exit code %d", out.OK, got.code)
	}
	for _, name := range []string{"platform", "python", "environment", "dspy", "workers", "lifeline"} {
		if states[name] != "ok" {
			t.Errorf("%s is %q; all are %v", name, states[name], states)
		}
	}
	if states["local model"] == "" {
		t.Error("the local model was not looked at")
	}
}

func TestDoctorNamesWhatIsBrokenAndTheRemedy(t *testing.T) {
	got := dspexCommand(t, "", nil, "doctor", "--set", "python.interpreter=/nonexistent/python3")
	if got.code != exitFailure || !strings.Contains(got.stdout, "/nonexistent/python3") || !strings.Contains(got.stdout, "→") || got.stderr != "" {
		t.Errorf("exit code %d, output %q, standard error %q", got.code, got.stdout, got.stderr)
	}
}

func TestSetupTellsWhereTheEnvironmentIs(t *testing.T) {
	got := dspexCommand(t, "", nil, "setup", "--no-local", "--json")
	var out setupJSON
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("exit code %d, output %q: %v", got.code, got.stdout, err)
	}
	if len(out.Environments) != 1 || out.Environments[0].Name != "worker" || !strings.HasPrefix(out.Environments[0].Dspy, "3.4") {
		t.Errorf("environments are %+v", out.Environments)
	}
}
