package nearest_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/nearest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNearest(t *testing.T) {
	tests := []struct {
		name       string
		asked      string
		candidates []string
		want       string
	}{
		{"one letter too many", "strr", []string{"int", "str", "float"}, "str"},
		{"two letters swapped", "itn", []string{"str", "int"}, "int"},
		{"another case", "Str", []string{"int", "str"}, "str"},
		{"the closest of several", "questin", []string{"questions", "question"}, "question"},
		{"the first of equals", "ax", []string{"ay", "az"}, "ay"},
		{"too far away", "elephant", []string{"str", "int"}, ""},
		{"a single letter is not near another", "a", []string{"b"}, ""},
		{"an empty name", "", []string{"a"}, ""},
		{"no candidates", "a", nil, ""},
		{"letters beyond ASCII", "größse", []string{"größe"}, "größe"},
		{"a very long name", strings.Repeat("a", 100), []string{strings.Repeat("a", 99)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := nearest.Nearest(tt.asked, tt.candidates)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("Nearest(%q) = %q, %v; want %q", tt.asked, got, ok, tt.want)
			}
		})
	}
}
