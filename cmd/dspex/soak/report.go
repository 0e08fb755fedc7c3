package soak

import (
	"math"
	"slices"
	"time"
)

// Report is what a soak came to. Times are in milliseconds.
type Report struct {
	// Lost counts calls that ended neither in a result nor in a typed error.
	Lost int `json:"lost"`
	// Duplicated counts questions that the model was asked more than once.
	Duplicated int `json:"duplicated"`
	// Crossed counts calls that got the answer to another question.
	Crossed int `json:"crossed"`
	// Leaked counts what was left after the Runtime was closed; Left describes it.
	Leaked int      `json:"leaked"`
	Left   []string `json:"left,omitempty"`

	// Seconds is how long calls were made; Seed is what the choices were made from.
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	// Requests counts calls, Outcomes the same by "ok" or the code of the error.
	Requests int            `json:"requests"`
	Outcomes map[string]int `json:"outcomes"`
	// Reruns counts calls that were run again because their worker had died.
	Reruns int `json:"reruns"`
	// Attempts counts model calls as the callers were told, Questions how many different
	// questions the model itself has seen.
	Attempts  int `json:"attempts"`
	Questions int `json:"questions"`
	// Chaos counts what was made to go wrong, by kind.
	Chaos map[string]int `json:"chaos"`
	// Latency is that of calls with a result.
	Latency Spread `json:"latency_ms"`
	// Restored is the time from a kill to full capacity.
	Restored Spread `json:"restored_ms"`
	// Started, WorkersLost and StartFailures count workers.
	Started       uint64 `json:"workers_started"`
	WorkersLost   uint64 `json:"workers_lost"`
	StartFailures uint64 `json:"start_failures"`
	// Unexpected lists different errors that no chaos explains, at most ten.
	Unexpected []string `json:"unexpected,omitempty"`
}

// Failed reports whether something was lost, duplicated, crossed or leaked.
func (r *Report) Failed() bool {
	return r.Lost > 0 || r.Duplicated > 0 || r.Crossed > 0 || r.Leaked > 0
}

// Spread describes durations, in milliseconds.
type Spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func spreadOf(times []time.Duration) Spread {
	if len(times) == 0 {
		return Spread{}
	}
	slices.Sort(times)
	at := func(q float64) float64 {
		d := times[min(int(q*float64(len(times))), len(times)-1)]
		return math.Round(d.Seconds()*1e6) / 1e3
	}
	return Spread{Count: len(times), P50: at(0.50), P90: at(0.90), P99: at(0.99), Max: at(1)}
}
