package lm

func (c *Config) decode(r *reader) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "max_tokens":
			return r.intPtr(&c.MaxTokens)
		case "temperature":
			return r.floatPtr(&c.Temperature)
		case "top_p":
			return r.floatPtr(&c.TopP)
		case "top_k":
			return r.intPtr(&c.TopK)
		case "stop":
			return r.strs(&c.Stop)
		case "response_format":
			return decodeInto(r, &c.ResponseFormat, (*ResponseFormat).decode)
		case "tool_choice":
			return decodeInto(r, &c.ToolChoice, (*ToolChoice).decode)
		case "reasoning":
			return decodeInto(r, &c.Reasoning, (*Reasoning).decode)
		case "cache":
			return decodeInto(r, &c.Cache, (*CacheConfig).decode)
		case "seed":
			return r.int64Ptr(&c.Seed)
		case "frequency_penalty":
			return r.floatPtr(&c.FrequencyPenalty)
		case "presence_penalty":
			return r.floatPtr(&c.PresencePenalty)
		case "service_tier":
			return r.str(&c.ServiceTier)
		case "user_id":
			return r.str(&c.UserID)
		case "store":
			return r.boolPtr(&c.Store)
		case "logprobs":
			return r.intPtr(&c.Logprobs)
		case "probabilities":
			return r.str(&c.Probabilities)
		case "extensions":
			return r.rawObject(&c.Extensions)
		default:
			return r.skip()
		}
	})
}

// decodeInto allocates *dst and decodes it, unless null comes next.
func decodeInto[T any](r *reader, dst **T, decode func(*T, *reader) error) error {
	if r.null() {
		return nil
	}
	*dst = new(T)
	return decode(*dst, r)
}

func (f *ResponseFormat) decode(r *reader) error {
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str(&f.Type)
		case "name":
			return r.str(&f.Name)
		case "schema":
			return r.rawObject(&f.Schema)
		case "strict":
			return r.boolPtr(&f.Strict)
		default:
			return r.skip()
		}
	})
	if err == nil && f.Type != FormatJSONObject && f.Type != FormatJSONSchema {
		return r.errorf("%q is not a response format", f.Type)
	}
	return err
}

func (t *ToolChoice) decode(r *reader) error {
	t.Mode = ToolsAuto
	return r.object(func(key []byte) error {
		switch string(key) {
		case "mode":
			return r.str(&t.Mode)
		case "allowed":
			return r.strs(&t.Allowed)
		case "parallel":
			return r.boolPtr(&t.Parallel)
		default:
			return r.skip()
		}
	})
}

func (t *Reasoning) decode(r *reader) error {
	t.Effort = "medium"
	return r.object(func(key []byte) error {
		switch string(key) {
		case "effort":
			return r.str(&t.Effort)
		case "thinking_budget":
			return r.intPtr(&t.ThinkingBudget)
		case "summary":
			return r.str(&t.Summary)
		default:
			return r.skip()
		}
	})
}

func (c *CacheConfig) decode(r *reader) error {
	c.Mode = "auto"
	return r.object(func(key []byte) error {
		switch string(key) {
		case "mode":
			return r.str(&c.Mode)
		case "retention":
			return r.str(&c.Retention)
		case "key":
			return r.str(&c.Key)
		case "prefix_until_index":
			return r.intPtr(&c.PrefixUntilIndex)
		case "prefix":
			return r.str(&c.Prefix)
		case "resource":
			return r.str(&c.Resource)
		default:
			return r.skip()
		}
	})
}
