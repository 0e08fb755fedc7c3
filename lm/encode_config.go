package lm

import "cmp"

func (c Config) encode(w *writer) {
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
		w.optStr("name", f.Name)
		w.optRaw("schema", f.Schema)
		w.boolPtr("strict", f.Strict)
		w.close('}')
	}
	if t := c.ToolChoice; t != nil {
		w.key("tool_choice")
		w.open('{')
		w.str("mode", cmp.Or(t.Mode, ToolsAuto))
		w.strs("allowed", t.Allowed)
		w.boolPtr("parallel", t.Parallel)
		w.close('}')
	}
	if r := c.Reasoning; r != nil {
		w.key("reasoning")
		w.open('{')
		w.str("effort", cmp.Or(r.Effort, "medium"))
		w.intPtr("thinking_budget", r.ThinkingBudget)
		w.optStr("summary", r.Summary)
		w.close('}')
	}
	if p := c.Cache; p != nil {
		w.key("cache")
		w.open('{')
		w.str("mode", cmp.Or(p.Mode, "auto"))
		w.optStr("retention", p.Retention)
		w.optStr("key", p.Key)
		w.intPtr("prefix_until_index", p.PrefixUntilIndex)
		w.optStr("prefix", p.Prefix)
		w.optStr("resource", p.Resource)
		w.close('}')
	}
	if c.Seed != nil {
		w.int("seed", *c.Seed)
	}
	w.floatPtr("frequency_penalty", c.FrequencyPenalty)
	w.floatPtr("presence_penalty", c.PresencePenalty)
	w.optStr("service_tier", c.ServiceTier)
	w.optStr("user_id", c.UserID)
	w.boolPtr("store", c.Store)
	w.intPtr("logprobs", c.Logprobs)
	w.optStr("probabilities", c.Probabilities)
	w.optObject("extensions", c.Extensions)
	w.close('}')
}
