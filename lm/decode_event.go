package lm

import "encoding/json"

func (e *Event) decode(r *reader) error {
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str((*string)(&e.Type))
		case "id":
			return r.str(&e.ID)
		case "model":
			return r.str(&e.Model)
		case "adaptations":
			return r.adaptations(&e.Adaptations)
		case "delta":
			return decodeInto(r, &e.Delta, (*Delta).decode)
		case "finish_reason":
			return r.finishReason(&e.FinishReason)
		case "usage":
			return decodeInto(r, &e.Usage, (*Usage).decode)
		case "provider_data":
			return r.rawObject(&e.ProviderData)
		case "error":
			return decodeInto(r, &e.Error, (*ErrorDetail).decode)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	switch {
	case e.Type == EventDelta && e.Delta == nil:
		return r.errorf("a delta event has no delta")
	case e.Type == EventError && e.Error == nil:
		return r.errorf("an error event has no error")
	case e.Type != EventStart && e.Type != EventDelta && e.Type != EventEnd && e.Type != EventError:
		return r.errorf("%q is not a kind of event", e.Type)
	}
	return nil
}

func (d *ErrorDetail) decode(r *reader) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "code":
			return r.str(&d.Code)
		case "message":
			return r.str(&d.Message)
		case "provider_code":
			return r.str(&d.ProviderCode)
		case "http_response":
			return r.rawObject(&d.HTTPResponse)
		default:
			return r.skip()
		}
	})
}

func (d *Delta) decode(r *reader) error {
	var (
		index               *int
		media               MediaDelta
		text, url, title    *string
		continuation        Continuation
		data                json.RawMessage
		logprobsAreComplete = true
	)
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str((*string)(&d.Type))
		case "part_index":
			return r.intPtr(&index)
		case "text":
			return r.strPtr(&text)
		case "logprobs":
			return r.logprobs(&d.Logprobs)
		case "logprobs_complete":
			return r.boolean(&logprobsAreComplete)
		case "input":
			return r.str(&d.Input)
		case "id":
			return r.str(&d.ID)
		case "name":
			return r.str(&d.Name)
		case "data": // base64 text of media, or the object of a continuation
			return r.raw(&data)
		case "url":
			return r.strPtr(&url)
		case "title":
			return r.strPtr(&title)
		case "file_id":
			return r.strPtr(&media.FileID)
		case "media_type":
			return r.str(&media.MediaType)
		case "provider":
			return r.str(&continuation.Provider)
		case "kind":
			return r.str(&continuation.Kind)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	if index != nil {
		d.PartIndex = *index
	}
	switch d.Type {
	case DeltaText, DeltaThinking:
		if text != nil {
			d.Text = *text
		}
		d.LogprobsIncomplete = !logprobsAreComplete
	case DeltaToolCall:
	case DeltaAudio, DeltaImage:
		media.URL = url
		if len(data) > 0 {
			if err := (&reader{b: data}).strPtr(&media.Data); err != nil {
				return r.errorf("the data of a media delta is no string")
			}
		}
		d.Media = &media
	case DeltaCitation:
		d.Citation = &CitationDelta{Text: text, URL: url, Title: title}
	case DeltaContinuation:
		d.WholeMessage = index == nil
		continuation.Data = json.RawMessage("{}")
		if err := (&reader{b: orElse(data, "null")}).rawObject(&continuation.Data); err != nil {
			return r.errorf("the data of a continuation is no object")
		}
		d.Continuation = &continuation
	default:
		return r.errorf("%q is not a kind of delta", d.Type)
	}
	return nil
}
