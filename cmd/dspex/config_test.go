package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
)

// config runs `dspex config --json` and returns its settings by key.
func config(tb testing.TB, environ []string, args ...string) map[string]dspex.Setting {
	tb.Helper()
	got := dspexCommand(tb, "", environ, append([]string{"config", "--json"}, args...)...)
	if got.code != exitOK {
		tb.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var out struct{ Settings []dspex.Setting }
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		tb.Fatal(err)
	}
	byKey := make(map[string]dspex.Setting)
	for _, s := range out.Settings {
		byKey[s.Key] = s
	}
	return byKey
}

func TestAFlagBeatsTheEnvironmentWhichBeatsTheFile(t *testing.T) {
	path := file(t, "settings.yaml", strings.Join([]string{
		"# a comment", "min: 2", "max: 3", "slots: 4", "start_timeout: 1m30s", "lazy: true",
		"python:", "  dir: /from/file", "  preload: [acme.rag, numpy]", "python.spawn: true", "queue:", "",
	}, "\n"))
	got := config(t, []string{"DSPEX_MAX=5", "DSPEX_SLOTS=6"}, "--config", path, "--set", "slots=7")
	want := map[string]dspex.Setting{
		"backend":        {Value: "process", Origin: dspex.OriginDefault},
		"min":            {Value: 2.0, Origin: dspex.OriginFile, Source: path},
		"max":            {Value: 5.0, Origin: dspex.OriginEnvironment, Source: "DSPEX_MAX"},
		"slots":          {Value: 7.0, Origin: dspex.OriginFlag, Source: "--set"},
		"queue":          {Value: 1024.0, Origin: dspex.OriginDefault},
		"lazy":           {Value: true, Origin: dspex.OriginFile, Source: path},
		"start_timeout":  {Value: "1m30s", Origin: dspex.OriginFile, Source: path},
		"python.dir":     {Value: "/from/file", Origin: dspex.OriginFile, Source: path},
		"python.preload": {Value: []any{"acme.rag", "numpy"}, Origin: dspex.OriginFile, Source: path},
		"python.spawn":   {Value: true, Origin: dspex.OriginFile, Source: path},
	}
	for key, w := range want {
		g := got[key]
		w.Key, w.Env, w.Doc = key, g.Env, g.Doc
		if diff := cmp.Diff(w, g); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}

func TestTheFileOfTheWorkingDirectoryIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("dspex.yaml", []byte("slots: 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := config(t, nil)["slots"]; got.Value != 9.0 || got.Source != "dspex.yaml" {
		t.Errorf("slots is %v from %q", got.Value, got.Source)
	}
}

func TestAFileThatCannotBeUsedIsNamedWithTheLine(t *testing.T) {
	tests := map[string]struct{ content, want string }{
		"unknown key":           {"min: 1\nslot: 2\n", `:2: unknown setting "slot" (did you mean "slots"?)`},
		"unknown nested key":    {"python:\n  dirr: /x\n", `:2: unknown setting "python.dirr" (did you mean "python.dir"?)`},
		"a value of other kind": {"min: many\n", `:1: min is "many": want a whole number`},
		"a mapping for a value": {"min:\n  a: 1\n", `unknown setting "min.a"`},
		"a list for a number":   {"min: [1, 2]\n", `min is "1,2": want a whole number`},
		"a list of lists":       {"python:\n  preload: [[a]]\n", "want a list of names"},
		"no mapping":            {"- min\n", "want settings as"},
		"no YAML":               {"min: [1\n", "is not YAML"},
		"a key twice":           {"min: 1\nmin: 2\n", "is not YAML"},
		"two documents":         {"min: 1\n---\nmax: 2\n", "has several documents"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := file(t, "s.yaml", tc.content)
			got := dspexCommand(t, "", nil, "config", "--config", path)
			if got.code != exitUsage || strings.Count(got.stderr, "\n") != 1 ||
				!strings.Contains(got.stderr, path) && name != "a mapping for a value" || !strings.Contains(got.stderr, tc.want) {
				t.Errorf("exit code %d, standard error %q, want one line with %q", got.code, got.stderr, tc.want)
			}
		})
	}
}

func TestAnEmptyFileSaysNothing(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if got := config(t, nil, "--config", file(t, "s.yaml", content))["min"]; got.Origin != dspex.OriginDefault {
			t.Errorf("%q: min comes from %s", content, got.Origin)
		}
	}
}

func TestConfigIsATableForPeople(t *testing.T) {
	got := dspexCommand(t, "", []string{"DSPEX_MIN=3"}, "config")
	if got.code != exitOK || !strings.Contains(got.stdout, "environment DSPEX_MIN") || got.stderr != "" {
		t.Errorf("exit code %d, output %q, standard error %q", got.code, got.stdout, got.stderr)
	}
}
