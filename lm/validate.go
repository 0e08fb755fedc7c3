package lm

import "fmt"

// Validate returns the first setting that no model takes, in one line, or nil. It looks
// at ranges only; what a provider does not know is that provider's refusal.
func (c Config) Validate() error {
	for _, n := range []struct {
		name  string
		value *int
		least int
	}{
		{"max_tokens", c.MaxTokens, 1},
		{"top_k", c.TopK, 1},
		{"logprobs", c.Logprobs, 0},
	} {
		if n.value != nil && *n.value < n.least {
			return fmt.Errorf("%s is %d: want at least %d", n.name, *n.value, n.least)
		}
	}
	for _, x := range []struct {
		name     string
		value    *float64
		low, top float64
	}{
		{"temperature", c.Temperature, 0, 2},
		{"top_p", c.TopP, 0, 1},
		{"frequency_penalty", c.FrequencyPenalty, -2, 2},
		{"presence_penalty", c.PresencePenalty, -2, 2},
	} {
		// Written so that NaN, which is in no range, is refused as well.
		if x.value != nil && !(*x.value >= x.low && *x.value <= x.top) {
			return fmt.Errorf("%s is %v: want %v to %v", x.name, *x.value, x.low, x.top)
		}
	}
	return nil
}
