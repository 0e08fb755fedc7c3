package openai

import (
	"strings"

	"github.com/dspex/dspex/lm"
)

// Capabilities returns Config.Capabilities if they are set. Otherwise OpenAI's models
// are known by their names: all but the first generations constrain answers to a
// schema, and the o-series and everything from gpt-5 on reason. Of other endpoints only
// streaming and JSON objects are assumed, because a server that ignores a schema does
// harm without a sound.
func (m *Model) Capabilities(model string) lm.Capabilities {
	if m.config.Capabilities != nil {
		return *m.config.Capabilities
	}
	if !m.isOpenAI {
		return lm.Capabilities{JSONObject: true, Streaming: true}
	}
	if m.config.Model != "" || model == "" {
		model = m.config.Model
	}
	// A fine-tuned model's name is "ft:" and that of its base.
	model = strings.TrimPrefix(strings.ToLower(model), "ft:")
	c := lm.Capabilities{ResponseSchema: true, JSONObject: true, FunctionCalling: true, Streaming: true}
	switch {
	case strings.HasPrefix(model, "gpt-3.5"), model == "gpt-4", strings.HasPrefix(model, "gpt-4-"), strings.HasPrefix(model, "gpt-4:"):
		c.ResponseSchema = false
	case strings.HasPrefix(model, "gpt-4"), strings.HasPrefix(model, "chatgpt-"):
	default:
		c.Reasoning = true
	}
	return c
}
