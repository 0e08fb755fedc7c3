package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// demoAnswers plays the model of the demo.
func demoAnswers(tb testing.TB) string {
	tb.Helper()
	lines := []string{
		`{"match": "Maria", "answer": "[[ ## name ## ]]\nMaria Lopez\n\n[[ ## age ## ]]\n34\n\n[[ ## profession ## ]]\nnurse\n\n[[ ## completed ## ]]"}`,
		`{"match": "capital", "answer": "[[ ## reasoning ## ]]\nParis is.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"}`,
		`{"match": "", "answer": "[[ ## topic ## ]]\nfood\n\n[[ ## completed ## ]]"}`,
	}
	return answers(tb, lines...)
}

func TestTheDemoLosesAWorkerAndNoRequest(t *testing.T) {
	got := dspexCommand(t, "", nil, "demo", "--json", "--lm", demoAnswers(t))
	if got.code != exitOK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var out demoJSON
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("output is %q: %v", got.stdout, err)
	}
	if out.Extraction.Output != (person{"Maria Lopez", 34, "nurse"}) || out.ChainOfThought.Output.Answer != "Paris" {
		t.Errorf("extraction %+v, chain of thought %+v", out.Extraction.Output, out.ChainOfThought)
	}
	f := out.Figures
	if len(out.Classification) != len(demoSentences()) || f.Failed != 0 || f.Predictions != len(demoSentences())+2 {
		t.Errorf("%d classifications, figures %+v", len(out.Classification), f)
	}
	if out.Killed == nil || out.Killed.Worker.PID == 0 || f.WorkersLost != 1 || f.WorkersStarted != demoWorkers+1 {
		t.Errorf("killed %+v, figures %+v", out.Killed, f)
	}
}

func TestTheDemoTellsItsStoryPlainlyWhereThereIsNoTerminal(t *testing.T) {
	got := dspexCommand(t, "", nil, "demo", "--lm", demoAnswers(t))
	for _, want := range []string{`person{Name: "Maria Lopez", Age: 34, Profession: "nurse"}`, "kill -9", "no call failed"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("output lacks %q:\n%s%s", want, got.stdout, got.stderr)
		}
	}
	if strings.Contains(got.stdout, "\x1b") {
		t.Errorf("output has control codes: %q", got.stdout)
	}
}
