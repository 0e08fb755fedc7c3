package lm

import "time"

// Usage counts the tokens of one or more LM calls. A zero field means that the
// provider reported nothing for it.
type Usage struct {
	InputTokens       int64 `json:"input_tokens,omitempty"`
	OutputTokens      int64 `json:"output_tokens,omitempty"`
	TotalTokens       int64 `json:"total_tokens,omitempty"`
	CacheReadTokens   int64 `json:"cache_read_tokens,omitempty"`
	CacheWriteTokens  int64 `json:"cache_write_tokens,omitempty"`
	ReasoningTokens   int64 `json:"reasoning_tokens,omitempty"`
	InputAudioTokens  int64 `json:"input_audio_tokens,omitempty"`
	OutputAudioTokens int64 `json:"output_audio_tokens,omitempty"`
}

// Add returns the sum of u and v, field by field.
func (u Usage) Add(v Usage) Usage {
	return Usage{
		InputTokens:       u.InputTokens + v.InputTokens,
		OutputTokens:      u.OutputTokens + v.OutputTokens,
		TotalTokens:       u.TotalTokens + v.TotalTokens,
		CacheReadTokens:   u.CacheReadTokens + v.CacheReadTokens,
		CacheWriteTokens:  u.CacheWriteTokens + v.CacheWriteTokens,
		ReasoningTokens:   u.ReasoningTokens + v.ReasoningTokens,
		InputAudioTokens:  u.InputAudioTokens + v.InputAudioTokens,
		OutputAudioTokens: u.OutputAudioTokens + v.OutputAudioTokens,
	}
}

// Call records one attempt to reach a language model on behalf of a program.
type Call struct {
	// Model is the route name under which the program asked.
	Model string `json:"model"`
	// Predictor is the path of the DSPy predictor that asked, for example "predict".
	Predictor string `json:"predictor,omitempty"`
	// Cached is true when no provider was asked.
	Cached bool `json:"cached,omitempty"`
	// Usage is what the attempt cost; zero when it failed or nothing was reported.
	Usage Usage `json:"usage"`
	// Duration is how long the attempt took, as seen by the host.
	Duration time.Duration `json:"duration_ns"`
	// Error is the text of the attempt's error, empty when it succeeded.
	Error string `json:"error,omitempty"`
}
