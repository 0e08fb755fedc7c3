package lm

import "time"

// Call records one attempt to reach a language model on behalf of a program.
type Call struct {
	// Model is the route name under which the program asked.
	Model string `json:"model"`
	// Predictor is the path of the DSPy predictor that asked, for example "predict".
	Predictor string `json:"predictor,omitempty"`
	// Cached is true when no provider was asked.
	Cached bool `json:"cached,omitempty"`
	// FinishReason says why the answer ended; FinishLength means that it was cut off at
	// the token limit. Empty when the attempt failed.
	FinishReason FinishReason `json:"finish_reason,omitempty"`
	// Usage is what the attempt cost; zero when it failed or nothing was reported.
	Usage Usage `json:"usage"`
	// Duration is how long the attempt took, as seen by the host.
	Duration time.Duration `json:"duration_ns"`
	// Error is the text of the attempt's error, empty when it succeeded.
	Error string `json:"error,omitempty"`
}
