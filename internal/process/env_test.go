package process

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyAllowedVariablesReachAChild(t *testing.T) {
	host := []string{
		"PATH=/bin", "HOME=/h", "LC_ALL=C", "LC_=x", "LC=no", "XLC_ALL=no", "PATHS=no", "OPENAI_API_KEY=no",
		"HTTP_PROXY=no", "PYTHONPATH=no", "PYTHONHASHSEED=no", "no", "=no",
	}
	want := append([]string{"PATH=/bin", "HOME=/h", "LC_ALL=C", "LC_=x"}, fixed()...)
	if diff := cmp.Diff(want, Environ(host)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestWhatTheCallerAddsWins(t *testing.T) {
	env := Environ([]string{"PATH=/bin"}, "PATH=/opt", "OMP_NUM_THREADS=4", "A=1", "A=2")
	for _, want := range []string{"PATH=/opt", "OMP_NUM_THREADS=4", "A=2"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	for _, unwanted := range []string{"PATH=/bin", "OMP_NUM_THREADS=1", "A=1"} {
		if slices.Contains(env, unwanted) {
			t.Errorf("%s is in %q", unwanted, env)
		}
	}
}
