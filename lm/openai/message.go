package openai

import (
	"encoding/json"
	"fmt"
	"strings"

	sdk "github.com/openai/openai-go/v3"

	"github.com/dspex/dspex/lm"
)

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
			b.refusef(path, "%q is not a role", msg.Role)
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
		b.refusef(at(path, i), "%s has no place in this message", article(p.Type))
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
		b.refusef(path, "an image has to be inline or at a URL; this protocol takes no file, and no path is opened")
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
		b.refusef(path, "audio has to be wav or mp3, not %q", m.MediaType)
	}
	if m.Data == "" {
		b.refusef(path, "audio has to be inline")
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
		b.refusef(path, "a document has to be inline or an uploaded file; this protocol takes no URL, and no path is opened")
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
			b.refusef(at(path, i), "a tool message holds tool results only")
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
