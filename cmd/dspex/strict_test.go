package main

import "testing"

func TestStrictFindsWhatWouldBeReadAsSomethingElse(t *testing.T) {
	for text, want := range map[string]string{
		`{"a": 1, "b": [{"c": 2}, {"c": 3}]}`: "",
		`{"a": "\ud83d\ude00 \\ud800"}`:       "",
		`not JSON`:                            "",
		`{"a": 1, "a": 2}`:                    `"a" is there twice`,
		`[{"b": {"a": 1, "a": 2}}]`:           `"a" is there twice`,
		`{"a": "\ud800"}`:                     `\ud800 is half a character`,
		`{"a": "\ude00"}`:                     `\ude00 is half a character`,
		`{"a": "\ud800x\ude00"}`:              `\ud800 is half a character`,
		"{\"a\": \"\xff\"}":                   "it is not UTF-8",
	} {
		got := ""
		if err := strict([]byte(text)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
