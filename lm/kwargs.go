package lm

import (
	"cmp"
	"encoding/json"
)

// Kwargs returns the settings as the keyword arguments of dspy.LM, a JSON object, and
// the rest: settings that dspy.LM has no argument for. Whoever runs the program sends
// the arguments to DSPy and merges the rest into each request that comes back. Kwargs
// fails only when a raw value is not JSON.
//
// The names are those of dspy/_vendor/lm15/providers/openai_chat.py, which DSPy uses to
// read the arguments.
func (c Config) Kwargs() (kwargs json.RawMessage, rest Config, err error) {
	out, err := appendJSON(nil, func(w *writer) { rest = c.kwargs(w) })
	return out, rest, err
}

func (c Config) kwargs(w *writer) (rest Config) {
	w.open('{')
	w.intPtr("max_tokens", c.MaxTokens)
	w.floatPtr("temperature", c.Temperature)
	w.floatPtr("top_p", c.TopP)
	w.intPtr("top_k", c.TopK)
	w.strs("stop", c.Stop)
	if f := c.ResponseFormat; f != nil {
		w.key("response_format")
		w.open('{')
		w.str("type", f.Type)
		if f.Type == FormatJSONSchema {
			w.key("json_schema")
			w.open('{')
			w.optStr("name", f.Name)
			w.optRaw("schema", f.Schema)
			w.boolPtr("strict", f.Strict)
			w.close('}')
		}
		w.close('}')
	}
	if r := c.Reasoning; r != nil {
		switch {
		case r.ThinkingBudget != nil || r.Summary != "":
			rest.Reasoning = r
		case r.Effort == "off":
			w.str("reasoning_effort", "none")
		default:
			w.str("reasoning_effort", cmp.Or(r.Effort, "medium"))
		}
	}
	if c.Seed != nil {
		w.int("seed", *c.Seed)
	}
	w.floatPtr("frequency_penalty", c.FrequencyPenalty)
	w.floatPtr("presence_penalty", c.PresencePenalty)
	w.optStr("service_tier", c.ServiceTier)
	w.optStr("user", c.UserID)
	w.boolPtr("store", c.Store)
	if n := c.Logprobs; n != nil {
		w.bool("logprobs", true)
		w.int("top_logprobs", int64(*n))
	}
	w.close('}')
	// DSPy's adapters decide on tools, so a choice made beforehand is not an argument.
	rest.ToolChoice, rest.Cache, rest.Probabilities, rest.Extensions = c.ToolChoice, c.Cache, c.Probabilities, c.Extensions
	return rest
}
