package lm

func (e *Event) encode(w *writer) {
	w.open('{')
	w.str("type", string(e.Type))
	switch e.Type {
	case EventStart:
		w.optStr("id", e.ID)
		w.optStr("model", e.Model)
		w.adaptations(e.Adaptations)
	case EventDelta:
		if e.Delta != nil {
			w.key("delta")
			e.Delta.encode(w)
		}
	case EventEnd:
		w.optStr("finish_reason", string(e.FinishReason))
		if e.Usage != nil && *e.Usage != (Usage{}) {
			w.key("usage")
			e.Usage.encode(w)
		}
		w.optObject("provider_data", e.ProviderData)
	case EventError:
		if d := e.Error; d != nil {
			w.key("error")
			w.open('{')
			w.str("code", d.Code)
			w.optStr("message", d.Message)
			w.optStr("provider_code", d.ProviderCode)
			w.optObject("http_response", d.HTTPResponse)
			w.close('}')
		}
	}
	w.close('}')
}

func (d *Delta) encode(w *writer) {
	w.open('{')
	w.str("type", string(d.Type))
	if !d.WholeMessage {
		w.int("part_index", int64(d.PartIndex))
	}
	switch d.Type {
	case DeltaText:
		w.str("text", d.Text)
		w.logprobs(d.Logprobs)
		if d.LogprobsIncomplete {
			w.bool("logprobs_complete", false)
		}
	case DeltaThinking:
		w.str("text", d.Text)
	case DeltaToolCall:
		w.str("input", d.Input)
		w.optStr("id", d.ID)
		w.optStr("name", d.Name)
	case DeltaAudio, DeltaImage:
		if m := d.Media; m != nil {
			w.strPtr("data", m.Data)
			w.strPtr("url", m.URL)
			w.strPtr("file_id", m.FileID)
			w.optStr("media_type", m.MediaType)
		}
	case DeltaCitation:
		if c := d.Citation; c != nil {
			w.strPtr("text", c.Text)
			w.strPtr("url", c.URL)
			w.strPtr("title", c.Title)
		}
	case DeltaContinuation:
		if c := d.Continuation; c != nil {
			w.str("provider", c.Provider)
			w.str("kind", c.Kind)
			w.raw("data", orElse(c.Data, "{}"))
		}
	}
	w.close('}')
}
