package openai

import (
	"encoding/json"
	"fmt"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/dspex/dspex/lm"
)

// builder turns a request into the SDK's parameters. The first refusal sticks.
type builder struct {
	name        string
	dialect     Dialect
	refusal     *lm.Error
	adaptations []lm.Adaptation
	extra       map[string]any
}

// refusef records that the protocol has no place for what is at path.
func (b *builder) refusef(path, format string, args ...any) {
	if b.refusal == nil {
		b.refusal = lm.Errorf(lm.KindUnsupportedFeature, b.name, "%s: %s", path, fmt.Sprintf(format, args...))
	}
}

// drop records that what is at path is left out.
func (b *builder) drop(path, reason string) {
	b.adaptations = append(b.adaptations, lm.Adaptation{Field: path, Action: "dropped", Reason: reason})
}

func (m *Model) params(req *lm.Request, stream bool) (sdk.ChatCompletionNewParams, []lm.Adaptation, error) {
	b := &builder{name: m.name, dialect: m.dialect, extra: map[string]any{}}
	p := sdk.ChatCompletionNewParams{Model: m.config.Model}
	if p.Model == "" {
		p.Model = req.Model
	}
	if stream {
		p.StreamOptions.IncludeUsage = sdk.Bool(true)
	}
	p.Messages = b.messages(req)
	b.tools(req, &p)
	b.sampling(&req.Config, &p)
	b.format(req.Config.ResponseFormat, &p)
	b.thinking(req.Config.Reasoning, &p)
	b.cache(req.Config.Cache)
	b.extensions(req.Config.Extensions)
	if b.refusal != nil {
		return p, nil, b.refusal
	}
	if len(b.extra) > 0 {
		p.SetExtraFields(b.extra)
	}
	return p, b.adaptations, nil
}

func (b *builder) sampling(c *lm.Config, p *sdk.ChatCompletionNewParams) {
	if c.MaxTokens != nil {
		if b.dialect.MaxTokensField == "max_completion_tokens" {
			p.MaxCompletionTokens = sdk.Int(int64(*c.MaxTokens))
		} else {
			p.MaxTokens = sdk.Int(int64(*c.MaxTokens))
		}
	}
	optional(&p.Temperature, c.Temperature)
	optional(&p.TopP, c.TopP)
	optional(&p.Seed, c.Seed)
	optional(&p.FrequencyPenalty, c.FrequencyPenalty)
	optional(&p.PresencePenalty, c.PresencePenalty)
	optional(&p.Store, c.Store)
	if len(c.Stop) > 0 {
		p.Stop.OfStringArray = c.Stop
	}
	if c.TopK != nil {
		if !b.dialect.TopK {
			b.refusef("config.top_k", "this endpoint has no such setting")
		}
		b.extra["top_k"] = *c.TopK
	}
	if c.Logprobs != nil {
		p.Logprobs = sdk.Bool(true)
		if *c.Logprobs > 0 {
			p.TopLogprobs = sdk.Int(int64(*c.Logprobs))
		}
	}
	p.ServiceTier = sdk.ChatCompletionNewParamsServiceTier(c.ServiceTier)
	if c.UserID != "" {
		p.User = sdk.String(c.UserID)
	}
	switch c.Probabilities {
	case "required":
		b.refusef("config.probabilities", "this protocol does not measure probabilities of fields")
	case "if_available":
		b.drop("config.probabilities", "this protocol does not measure probabilities of fields")
	}
}

func optional[T comparable](dst *param.Opt[T], v *T) {
	if v != nil {
		*dst = param.NewOpt(*v)
	}
}

func (b *builder) format(f *lm.ResponseFormat, p *sdk.ChatCompletionNewParams) {
	switch {
	case f == nil:
	case f.Type == lm.FormatJSONObject:
		p.ResponseFormat.OfJSONObject = &shared.ResponseFormatJSONObjectParam{}
	case f.Type == lm.FormatJSONSchema:
		schema := shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: f.Name, Schema: f.Schema}
		if schema.Name == "" {
			schema.Name = "response" // The protocol wants a name; DSPy takes this one.
		}
		optional(&schema.Strict, f.Strict)
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: schema}
	default:
		b.refusef("config.response_format", "%q is not a response format", f.Type)
	}
}

func (b *builder) thinking(r *lm.Reasoning, p *sdk.ChatCompletionNewParams) {
	switch {
	case r == nil:
		return
	case r.ThinkingBudget != nil:
		b.refusef("config.reasoning.thinking_budget", "this protocol has an effort, but no budget of tokens")
	case r.Summary == "auto":
		b.drop("config.reasoning.summary", "this protocol has no switch for it; what the server shows is returned")
	case r.Summary != "":
		b.refusef("config.reasoning.summary", "this protocol has no levels of summary")
	}
	p.ReasoningEffort = shared.ReasoningEffort(r.Effort)
	switch r.Effort {
	case "off":
		p.ReasoningEffort = "none"
	case "":
		p.ReasoningEffort = "medium"
	}
}

func (b *builder) cache(c *lm.CacheConfig) {
	if c == nil {
		return
	}
	if c.Resource != "" {
		b.refusef("config.cache.resource", "this protocol has no stored caches")
	}
	// Prefixes are cached by the servers themselves: prefix and prefix_until_index ask
	// for what happens anyway, and mode "off" for nothing that could be sent.
	if c.Key != "" {
		if !b.dialect.PromptCache {
			b.refusef("config.cache.key", "this endpoint has no such setting")
		}
		b.extra["prompt_cache_key"] = c.Key
	}
	if c.Retention == "long" {
		if !b.dialect.PromptCache {
			b.refusef("config.cache.retention", "this endpoint has no long retention")
		}
		b.extra["prompt_cache_retention"] = "24h"
	}
}

// reserved lists the members of the body that an extension may not set: those that a
// request sets in its own way, and those that change the form of the answer.
func reserved(name string) bool {
	switch name {
	case "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
		"stream", "stream_options", "n", "audio", "modalities", "web_search_options", "response_format",
		"max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "seed",
		"frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "service_tier", "user", "store":
		return true
	default:
		return false
	}
}

// extensions passes members on as they are: they are the endpoint's own, and an
// endpoint that does not know one says so.
func (b *builder) extensions(raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		b.refusef("config.extensions", "not a JSON object")
		return
	}
	for name, value := range members {
		if reserved(name) {
			b.refusef("config.extensions."+name, "it is no extension; set it in the request or not at all")
			return
		}
		b.extra[name] = value
	}
}

func (b *builder) tools(req *lm.Request, p *sdk.ChatCompletionNewParams) {
	for i, t := range req.Tools {
		if t.Type != lm.ToolFunction {
			b.refusef(fmt.Sprintf("tools[%d]", i), "%q is built in at some providers; this protocol carries functions only", t.Name)
			continue
		}
		function := shared.FunctionDefinitionParam{Name: t.Name}
		if t.Description != "" {
			function.Description = sdk.String(t.Description)
		}
		parameters := t.Parameters
		if len(parameters) == 0 {
			parameters = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		// As bytes: a map would lose the order of the properties.
		function.SetExtraFields(map[string]any{"parameters": parameters})
		p.Tools = append(p.Tools, sdk.ChatCompletionFunctionTool(function))
	}
	choice := req.Config.ToolChoice
	if choice == nil {
		return
	}
	if len(p.Tools) > 0 {
		optional(&p.ParallelToolCalls, choice.Parallel)
	}
	mode := choice.Mode
	if mode == "" {
		mode = lm.ToolsAuto
	}
	switch {
	case len(req.Tools) == 0 && mode != lm.ToolsRequired:
		// Without tools there is nothing to choose, and OpenAI refuses a choice.
	case len(choice.Allowed) == 0:
		p.ToolChoice.OfAuto = sdk.String(mode)
	case len(choice.Allowed) == 1 && mode == lm.ToolsRequired:
		p.ToolChoice = sdk.ToolChoiceOptionFunctionToolChoice(
			sdk.ChatCompletionNamedToolChoiceFunctionParam{Name: choice.Allowed[0]})
	default:
		allowed := sdk.ChatCompletionAllowedToolsParam{Mode: sdk.ChatCompletionAllowedToolsMode(mode)}
		for _, name := range choice.Allowed {
			allowed.Tools = append(allowed.Tools, map[string]any{
				"type": "function", "function": map[string]any{"name": name},
			})
		}
		p.ToolChoice = sdk.ToolChoiceOptionAllowedTools(allowed)
	}
}
