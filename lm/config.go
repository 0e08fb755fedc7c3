package lm

import (
	"encoding/json"
	"maps"
)

// Config holds the settings of a request. It is also what users set on a program
// or a call. A nil pointer, an empty slice and an empty string mean that nothing
// is asked for and the provider's own default applies.
type Config struct {
	// MaxTokens bounds the answer, in tokens; at least 1.
	MaxTokens *int
	// Temperature is in [0, 2].
	Temperature *float64
	// TopP is in [0, 1].
	TopP *float64
	// TopK is at least 1.
	TopK *int
	// Stop lists texts at which the answer ends.
	Stop []string
	// ResponseFormat constrains the answer.
	ResponseFormat *ResponseFormat
	// ToolChoice says how the tools of the request may be used.
	ToolChoice *ToolChoice
	// Reasoning says how much the model thinks before it answers.
	Reasoning *Reasoning
	// Cache sets the provider's own prompt cache, not the cache of the gateway.
	Cache *CacheConfig
	// Seed asks for a repeatable answer, as far as the provider can.
	Seed *int64
	// FrequencyPenalty and PresencePenalty are in [-2, 2].
	FrequencyPenalty *float64
	PresencePenalty  *float64
	// ServiceTier is a word of the provider's, such as "flex".
	ServiceTier string
	// UserID is an opaque identifier of the end user, for the provider's abuse checks.
	UserID string
	// Store says whether the provider may keep the answer.
	Store *bool
	// Logprobs asks for the log-probability of each token: 0 for the chosen ones
	// only, n for the n likeliest alternatives too.
	Logprobs *int
	// Probabilities asks for a distribution over the keys of judged fields: "off",
	// "if_available" or "required".
	Probabilities string
	// Extensions is a JSON object with settings of one provider's own.
	Extensions json.RawMessage
}

// Merge returns c with every setting that over makes. The members of both Extensions
// are kept; where both have one, that of over wins.
func (c Config) Merge(over Config) Config {
	pick(&c.MaxTokens, over.MaxTokens)
	pick(&c.Temperature, over.Temperature)
	pick(&c.TopP, over.TopP)
	pick(&c.TopK, over.TopK)
	if len(over.Stop) > 0 {
		c.Stop = over.Stop
	}
	pick(&c.ResponseFormat, over.ResponseFormat)
	pick(&c.ToolChoice, over.ToolChoice)
	pick(&c.Reasoning, over.Reasoning)
	pick(&c.Cache, over.Cache)
	pick(&c.Seed, over.Seed)
	pick(&c.FrequencyPenalty, over.FrequencyPenalty)
	pick(&c.PresencePenalty, over.PresencePenalty)
	if over.ServiceTier != "" {
		c.ServiceTier = over.ServiceTier
	}
	if over.UserID != "" {
		c.UserID = over.UserID
	}
	pick(&c.Store, over.Store)
	pick(&c.Logprobs, over.Logprobs)
	if over.Probabilities != "" {
		c.Probabilities = over.Probabilities
	}
	c.Extensions = mergeObjects(c.Extensions, over.Extensions)
	return c
}

// mergeObjects returns the JSON object with the members of both; those of over win.
// What is no object loses to what is one.
func mergeObjects(base, over json.RawMessage) json.RawMessage {
	var members, more map[string]json.RawMessage
	switch {
	case len(over) == 0 || json.Unmarshal(over, &more) != nil:
		return base
	case len(base) == 0 || json.Unmarshal(base, &members) != nil || members == nil:
		return over
	}
	maps.Copy(members, more)
	merged, err := json.Marshal(members)
	if err != nil {
		return over
	}
	return merged
}

func pick[T any](dst **T, over *T) {
	if over != nil {
		*dst = over
	}
}

// The types of a [ResponseFormat].
const (
	FormatJSONObject = "json_object"
	FormatJSONSchema = "json_schema"
)

// ResponseFormat constrains an answer to JSON.
type ResponseFormat struct {
	// Type is FormatJSONObject (any object) or FormatJSONSchema.
	Type string
	// Name labels the schema.
	Name string
	// Schema is a JSON Schema; set if and only if Type is FormatJSONSchema.
	Schema json.RawMessage
	// Strict asks the provider to hold to the schema exactly.
	Strict *bool
}

// The modes of a [ToolChoice].
const (
	ToolsAuto     = "auto"
	ToolsRequired = "required"
	ToolsNone     = "none"
)

// ToolChoice says how the model may use tools.
type ToolChoice struct {
	// Mode is ToolsAuto, ToolsRequired or ToolsNone; empty means ToolsAuto.
	Mode string
	// Allowed names the tools that may be called; empty means all.
	Allowed []string
	// Parallel says whether several tools may be called at once.
	Parallel *bool
}

// Reasoning says how much a model thinks before it answers.
type Reasoning struct {
	// Effort is "off", "minimal", "low", "medium", "high", "xhigh" or "max"; empty
	// means "medium".
	Effort string
	// ThinkingBudget bounds the thinking, in tokens, where the provider counts it.
	ThinkingBudget *int
	// Summary asks to see the thinking: "auto", "concise" or "detailed".
	Summary string
}

// CacheConfig says how a provider's prompt cache is used.
type CacheConfig struct {
	// Mode is "auto" or "off"; empty means "auto".
	Mode string
	// Retention is "short" or "long".
	Retention string
	// Key is a hint that brings equal prefixes to the same cache.
	Key string
	// Prefix is "stable" (system and tools) or "history" (the whole conversation).
	Prefix string
	// PrefixUntilIndex is the index of the last message of the cached prefix.
	PrefixUntilIndex *int
	// Resource names a stored cache of the provider.
	Resource string
}
