package openai

import (
	"encoding/json"
	"fmt"
	"strings"

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

// refuse records that the protocol has no place for what is at path.
func (b *builder) refuse(path, format string, args ...any) {
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
			b.refuse("config.top_k", "this endpoint has no such setting")
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
		b.refuse("config.probabilities", "this protocol does not measure probabilities of fields")
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
		b.refuse("config.response_format", "%q is not a response format", f.Type)
	}
}

func (b *builder) thinking(r *lm.Reasoning, p *sdk.ChatCompletionNewParams) {
	switch {
	case r == nil:
		return
	case r.ThinkingBudget != nil:
		b.refuse("config.reasoning.thinking_budget", "this protocol has an effort, but no budget of tokens")
	case r.Summary == "auto":
		b.drop("config.reasoning.summary", "this protocol has no switch for it; what the server shows is returned")
	case r.Summary != "":
		b.refuse("config.reasoning.summary", "this protocol has no levels of summary")
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
		b.refuse("config.cache.resource", "this protocol has no stored caches")
	}
	// Prefixes are cached by the servers themselves: prefix and prefix_until_index ask
	// for what happens anyway, and mode "off" for nothing that could be sent.
	if c.Key != "" {
		if !b.dialect.PromptCache {
			b.refuse("config.cache.key", "this endpoint has no such setting")
		}
		b.extra["prompt_cache_key"] = c.Key
	}
	if c.Retention == "long" {
		if !b.dialect.PromptCache {
			b.refuse("config.cache.retention", "this endpoint has no long retention")
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
		b.refuse("config.extensions", "not a JSON object")
		return
	}
	for name, value := range members {
		if reserved(name) {
			b.refuse("config.extensions."+name, "it is no extension; set it in the request or not at all")
			return
		}
		b.extra[name] = value
	}
}

func (b *builder) tools(req *lm.Request, p *sdk.ChatCompletionNewParams) {
	for i, t := range req.Tools {
		if t.Type != lm.ToolFunction {
			b.refuse(fmt.Sprintf("tools[%d]", i), "%q is built in at some providers; this protocol carries functions only", t.Name)
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

func (b *builder) messages(req *lm.Request) []sdk.ChatCompletionMessageParamUnion {
	list := make([]sdk.ChatCompletionMessageParamUnion, 0, len(req.Messages)+1)
	switch {
	case len(req.SystemParts) > 0:
		list = append(list, sdk.SystemMessage(b.texts("system", req.SystemParts)))
	case req.System != "":
		list = append(list, sdk.SystemMessage(req.System))
	}
	for i := range req.Messages {
		msg := &req.Messages[i]
		path := fmt.Sprintf("messages[%d]", i)
		switch msg.Role {
		case lm.RoleUser:
			list = append(list, b.user(path, msg.Parts))
		case lm.RoleAssistant:
			list = append(list, b.assistant(path, msg.Parts))
		case lm.RoleDeveloper:
			texts := b.texts(path, msg.Parts)
			if b.dialect.DeveloperRole == "developer" {
				list = append(list, sdk.DeveloperMessage(texts))
			} else {
				list = append(list, sdk.SystemMessage(texts))
			}
		case lm.RoleTool:
			list = append(list, b.results(path, msg.Parts)...)
		default:
			b.refuse(path, "%q is not a role", msg.Role)
		}
	}
	return list
}

func at(path string, i int) string { return fmt.Sprintf("%s.parts[%d]", path, i) }

// texts is for messages that hold nothing but text.
func (b *builder) texts(path string, parts []lm.Part) []sdk.ChatCompletionContentPartTextParam {
	var list []sdk.ChatCompletionContentPartTextParam
	for i := range parts {
		if text, ok := b.text(path, i, &parts[i]); ok {
			list = append(list, sdk.ChatCompletionContentPartTextParam{Text: text})
		}
	}
	return list
}

// text returns what a part says in a place that holds text only.
func (b *builder) text(path string, i int, p *lm.Part) (string, bool) {
	switch p.Type {
	case lm.PartText:
		return p.Text, true
	case lm.PartData:
		return string(p.Data.Value), true
	case lm.PartThinking:
		b.drop(at(path, i), "this protocol does not take reasoning back")
		return "", false
	default:
		b.refuse(at(path, i), "%s has no place in this message", article(p.Type))
		return "", false
	}
}

func article(t lm.PartType) string {
	if strings.ContainsRune("aeiou", rune(t[0])) {
		return fmt.Sprintf("an %s part", t)
	}
	return fmt.Sprintf("a %s part", t)
}

func (b *builder) user(path string, parts []lm.Part) sdk.ChatCompletionMessageParamUnion {
	if len(parts) == 1 && (parts[0].Type == lm.PartText || parts[0].Type == lm.PartData) {
		text, _ := b.text(path, 0, &parts[0])
		return sdk.UserMessage(text)
	}
	var list []sdk.ChatCompletionContentPartUnionParam
	for i := range parts {
		switch p := &parts[i]; p.Type {
		case lm.PartImage:
			list = append(list, b.image(at(path, i), p.Media))
		case lm.PartAudio:
			list = append(list, b.audio(at(path, i), p.Media))
		case lm.PartDocument:
			list = append(list, b.document(at(path, i), p.Media))
		default:
			if text, ok := b.text(path, i, p); ok {
				list = append(list, sdk.TextContentPart(text))
			}
		}
	}
	return sdk.UserMessage(list)
}

func (b *builder) image(path string, m *lm.Media) sdk.ChatCompletionContentPartUnionParam {
	image := sdk.ChatCompletionContentPartImageImageURLParam{URL: m.URL, Detail: m.Detail}
	switch {
	case m.URL != "":
	case m.Data != "":
		image.URL = dataURI(m)
	default:
		b.refuse(path, "an image has to be inline or at a URL; this protocol takes no file, and no path is opened")
	}
	return sdk.ImageContentPart(image)
}

func dataURI(m *lm.Media) string {
	if strings.HasPrefix(m.Data, "data:") {
		return m.Data
	}
	return "data:" + m.MediaType + ";base64," + m.Data
}

func (b *builder) audio(path string, m *lm.Media) sdk.ChatCompletionContentPartUnionParam {
	var format string
	switch m.MediaType {
	case "audio/wav", "audio/x-wav", "audio/wave":
		format = "wav"
	case "audio/mpeg", "audio/mp3":
		format = "mp3"
	default:
		b.refuse(path, "audio has to be wav or mp3, not %q", m.MediaType)
	}
	if m.Data == "" {
		b.refuse(path, "audio has to be inline")
	}
	return sdk.InputAudioContentPart(sdk.ChatCompletionContentPartInputAudioInputAudioParam{Data: m.Data, Format: format})
}

func (b *builder) document(path string, m *lm.Media) sdk.ChatCompletionContentPartUnionParam {
	var file sdk.ChatCompletionContentPartFileFileParam
	switch {
	case m.FileID != "":
		file.FileID = sdk.String(m.FileID)
	case m.Data != "":
		file.FileData = sdk.String(dataURI(m))
		file.Filename = sdk.String("document" + extension(m.MediaType)) // Required with data.
	default:
		b.refuse(path, "a document has to be inline or an uploaded file; this protocol takes no URL, and no path is opened")
	}
	return sdk.FileContentPart(file)
}

func extension(mediaType string) string {
	switch mediaType {
	case "application/pdf":
		return ".pdf"
	case "text/plain":
		return ".txt"
	case "text/markdown":
		return ".md"
	case "application/json":
		return ".json"
	default:
		return ""
	}
}

func (b *builder) assistant(path string, parts []lm.Part) sdk.ChatCompletionMessageParamUnion {
	var (
		msg     sdk.ChatCompletionAssistantMessageParam
		content []sdk.ChatCompletionAssistantMessageParamContentArrayOfContentPartUnion
	)
	for i := range parts {
		switch p := &parts[i]; p.Type {
		case lm.PartToolCall:
			msg.ToolCalls = append(msg.ToolCalls, sdk.ChatCompletionMessageToolCallUnionParam{
				OfFunction: &sdk.ChatCompletionMessageFunctionToolCallParam{
					ID: p.ToolCall.ID,
					Function: sdk.ChatCompletionMessageFunctionToolCallFunctionParam{
						Name: p.ToolCall.Name, Arguments: arguments(p.ToolCall.Input),
					},
				},
			})
		case lm.PartRefusal:
			content = append(content, sdk.ChatCompletionAssistantMessageParamContentArrayOfContentPartUnion{
				OfRefusal: &sdk.ChatCompletionContentPartRefusalParam{Refusal: p.Text},
			})
		case lm.PartCitation:
			b.drop(at(path, i), "this protocol does not take citations back")
		default:
			if text, ok := b.text(path, i, p); ok {
				content = append(content, sdk.ChatCompletionAssistantMessageParamContentArrayOfContentPartUnion{
					OfText: &sdk.ChatCompletionContentPartTextParam{Text: text},
				})
			}
		}
	}
	switch {
	case len(content) == 1 && content[0].OfText != nil:
		msg.Content.OfString = sdk.String(content[0].OfText.Text)
	case len(content) > 0:
		msg.Content.OfArrayOfContentParts = content
	case len(msg.ToolCalls) == 0:
		msg.Content.OfString = sdk.String("") // A message is never without both.
	}
	return sdk.ChatCompletionMessageParamUnion{OfAssistant: &msg}
}

func arguments(input json.RawMessage) string {
	if len(input) == 0 {
		return "{}"
	}
	return string(input)
}

func (b *builder) results(path string, parts []lm.Part) []sdk.ChatCompletionMessageParamUnion {
	var list []sdk.ChatCompletionMessageParamUnion
	for i := range parts {
		r := parts[i].ToolResult
		if r == nil {
			b.refuse(at(path, i), "a tool message holds tool results only")
			continue
		}
		var text strings.Builder
		if r.IsError {
			text.WriteString("[error] ") // The protocol has no flag; DSPy writes the same.
		}
		for j := range r.Content {
			if s, ok := b.text(at(path, i), j, &r.Content[j]); ok {
				if j > 0 {
					text.WriteByte('\n')
				}
				text.WriteString(s)
			}
		}
		list = append(list, sdk.ToolMessage(text.String(), r.ID))
	}
	return list
}
