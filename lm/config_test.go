package lm_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/lm"
)

func TestMergeLetsTheSecondConfigWinSettingBySetting(t *testing.T) {
	base := lm.Config{
		Temperature: new(0.5), MaxTokens: new(10), Stop: []string{"a"}, UserID: "u",
		Extensions: json.RawMessage(`{"a":1,"b":2}`),
	}
	got := base.Merge(lm.Config{
		Temperature: new(0.0), Seed: new(int64(7)), Stop: []string{"b"}, Extensions: json.RawMessage(`{"b":3}`),
	})
	want := lm.Config{
		Temperature: new(0.0), MaxTokens: new(10), Stop: []string{"b"}, UserID: "u", Seed: new(int64(7)),
		Extensions: json.RawMessage(`{"a":1,"b":3}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if *base.Temperature != 0.5 || string(base.Extensions) != `{"a":1,"b":2}` {
		t.Error("Merge changed its receiver")
	}
	if diff := cmp.Diff(got, got.Merge(lm.Config{})); diff != "" {
		t.Errorf("merging nothing changed it: %s", diff)
	}
}
