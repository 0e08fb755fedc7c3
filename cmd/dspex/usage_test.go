package main

import (
	"strings"
	"testing"
)

func TestAWrongCommandExitsWith2AndOneLineThatSaysWhatToDo(t *testing.T) {
	script := file(t, "answers.jsonl", `"an answer"`+"\n")
	lm := []string{"--lm", "scripted:" + script}
	tests := map[string]struct {
		args    []string
		stdin   string
		environ string
		want    string // in the one line
	}{
		"unknown command":          {args: []string{"rnu"}, want: `unknown command "rnu" (did you mean "run"?)`},
		"unknown command of help":  {args: []string{"help", "rnu"}, want: `unknown command "rnu" (did you mean "run"?)`},
		"unknown flag":             {args: []string{"run", "--modul", "cot"}, want: `unknown flag "--modul" (did you mean "--module"?)`},
		"unknown flag of the root": {args: []string{"--jsn"}, want: `unknown flag "--jsn" (did you mean "--json"?)`},
		"a flag without its value": {args: []string{"run", "--module"}, want: "flag needs an argument: --module"},
		"a flag's bad value":       {args: []string{"run", "--timeout", "soon"}, want: "--timeout"},
		"a negative time-out":      {args: []string{"run", "--timeout", "-1s", "a -> b", "a=1"}, want: "--timeout is -1s"},
		"an argument too many":     {args: []string{"version", "now"}, want: `takes no arguments, not "now"`},
		"no signature":             {args: []string{"run"}, want: "the signature is missing"},
		"unknown module":           {args: []string{"run", "--module", "predct", "a -> b", "a=1"}, want: `unknown module "predct" (did you mean "predict"?)`},
		"unknown adapter":          {args: []string{"run", "--adapter", "jsn", "a -> b", "a=1"}, want: `did you mean "json"?`},
		"unknown model scheme":     {args: []string{"run", "--lm", "opnai/gpt", "a -> b", "a=1"}, want: `did you mean "openai/"?`},
		"a scheme without a model": {args: []string{"run", "--lm", "openai/", "a -> b", "a=1"}, want: "lacks the model"},
		"a scheme without a file":  {args: []string{"run", "--lm", "scripted:", "a -> b", "a=1"}, want: "lacks the file"},
		"a base URL for another":   {args: []string{"run", "--base-url", "http://127.0.0.1", "a -> b", "a=1"}, want: "--base-url goes with --lm openai/MODEL"},
		"a base URL that is none":  {args: []string{"run", "--lm", "openai/m", "--base-url", "localhost:80", "a -> b", "a=1"}, want: "is not an http or https URL"},
		"unknown setting":          {args: []string{"config", "--set", "pyton.dir=/x"}, want: `unknown setting "pyton.dir" (did you mean "python.dir"?)`},
		"a setting without value":  {args: []string{"config", "--set", "min"}, want: "--set min has no value"},
		"contradictory settings":   {args: []string{"config", "--set", "min=4", "--set", "max=2"}, want: "max is 2 but min is 4"},
		"unknown variable":         {args: []string{"config"}, environ: "DSPEX_SLOT=1", want: "did you mean DSPEX_SLOTS?"},
		"a variable's bad value":   {args: []string{"config"}, environ: "DSPEX_SLOTS=lots", want: `DSPEX_SLOTS is "lots"`},
		"no file of settings":      {args: []string{"config", "--config", "/nonexistent/dspex.yaml"}, want: "cannot read the settings"},
		"malformed signature":      {args: append([]string{"run", "question answer"}, lm...), want: "->"},
		"unknown field type":       {args: append([]string{"run", "a -> b: strng", "a=1"}, lm...), want: `strng`},
		"reserved field name":      {args: append([]string{"run", "signature -> b", "signature=1"}, lm...), want: "signature"},
		"reserved input lm":        {args: append([]string{"run", "lm -> b", "lm=1"}, lm...), want: "lm"},
		"same input and output":    {args: append([]string{"run", "a -> a", "a=1"}, lm...), want: `a`},
		"missing input":            {args: append([]string{"run", "a, b -> c", "a=1"}, lm...), want: `the input "b" is missing`},
		"extra input":              {args: append([]string{"run", "question -> c", "question=1", "questio=2"}, lm...), want: `unknown input "questio" (did you mean "question"?)`},
		"an input without value":   {args: append([]string{"run", "a -> b", "a"}, lm...), want: `write NAME=VALUE`},
		"an input given twice":     {args: append([]string{"run", "a -> b", "a=1", "a=2"}, lm...), want: `the input "a" is given twice`},
		"an input of another type": {args: append([]string{"run", "a: int -> b", "a=many"}, lm...), want: `a`},
		"unreadable input file":    {args: append([]string{"run", "a -> b", "--input", "/nonexistent/in.json"}, lm...), want: "cannot read the inputs"},
		"an input file of a list":  {args: append([]string{"run", "a -> b", "--input", "-"}, lm...), stdin: "[1]", want: "want one JSON object"},
		"an empty input file":      {args: append([]string{"run", "a -> b", "--input", "-"}, lm...), want: "want one JSON object"},
		"input after the object":   {args: append([]string{"run", "a -> b", "--input", "-"}, lm...), stdin: `{"a":"1"} {}`, want: "want one JSON object"},
		"demo with an argument":    {args: []string{"demo", "fast"}, want: "takes no arguments"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var environ []string
			if tc.environ != "" {
				environ = append(environ, tc.environ)
			}
			got := dspexCommand(t, tc.stdin, environ, tc.args...)
			if got.code != exitUsage || got.stdout != "" {
				t.Errorf("exit code %d and output %q, want 2 and none", got.code, got.stdout)
			}
			if strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "dspex: ") || !strings.Contains(got.stderr, tc.want) {
				t.Errorf("standard error is %q, want one line with %q", got.stderr, tc.want)
			}
			got = dspexCommand(t, tc.stdin, environ, append([]string{"--json"}, tc.args...)...)
			code, message := failure(t, got)
			if got.code != exitUsage || code == "" || "dspex: "+message+"\n" != got.stderr {
				t.Errorf("with --json: exit code %d, error %s %q beside %q", got.code, code, message, got.stderr)
			}
		})
	}
}

func TestWhatCannotBeDoneExitsWith1AndSaysWhy(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"missing key": {[]string{"run", "--lm", "openai/gpt-4o-mini", "a -> b", "a=1"}, "OPENAI_API_KEY is not set"},
		"unreadable answers": {
			[]string{"run", "--lm", "scripted:/nonexistent/answers.jsonl", "a -> b", "a=1"},
			"/nonexistent/answers.jsonl",
		},
		"no Python": {
			[]string{"run", "--set", "python.interpreter=/nonexistent/python3", "--lm", "scripted:" + file(t, "a.jsonl", `"x"`), "a -> b", "a=1"},
			"/nonexistent/python3",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := dspexCommand(t, "", nil, tc.args...)
			if got.code != exitFailure || got.stdout != "" {
				t.Errorf("exit code %d and output %q, want 1 and none", got.code, got.stdout)
			}
			if strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, tc.want) {
				t.Errorf("standard error is %q, want one line with %q", got.stderr, tc.want)
			}
		})
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"run", "--help"}, {"help", "demo"}} {
		got := dspexCommand(t, "", nil, args...)
		if got.code != exitOK || !strings.Contains(got.stdout, "Usage:") || got.stderr != "" {
			t.Errorf("%q: exit code %d, standard error %q", args, got.code, got.stderr)
		}
	}
}

func TestVersionNamesThisModule(t *testing.T) {
	got := dspexCommand(t, "", nil, "version")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "dspex 0.") {
		t.Errorf("exit code %d, output %q", got.code, got.stdout)
	}
}
