package lm_test

import (
	"encoding/json"
	"math"
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

func TestValidateNamesTheSettingThatNoModelTakes(t *testing.T) {
	for want, config := range map[string]lm.Config{
		"max_tokens is 0: want at least 1":      {MaxTokens: new(0)},
		"top_k is -1: want at least 1":          {TopK: new(-1)},
		"logprobs is -1: want at least 0":       {Logprobs: new(-1)},
		"temperature is 9: want 0 to 2":         {Temperature: new(9.0)},
		"temperature is NaN: want 0 to 2":       {Temperature: new(math.NaN())},
		"top_p is 1.5: want 0 to 1":             {TopP: new(1.5)},
		"frequency_penalty is -3: want -2 to 2": {FrequencyPenalty: new(-3.0)},
		"presence_penalty is 2.5: want -2 to 2": {PresencePenalty: new(2.5)},
	} {
		if err := config.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	good := lm.Config{MaxTokens: new(1), Temperature: new(0.0), TopP: new(1.0), Logprobs: new(0)}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
