package lm

func (r *Response) encode(w *writer) {
	w.open('{')
	w.optStr("id", r.ID)
	w.str("model", r.Model)
	w.key("message")
	r.Message.encode(w)
	w.str("finish_reason", string(r.FinishReason))
	if r.Usage != (Usage{}) {
		w.key("usage")
		r.Usage.encode(w)
	}
	w.logprobs(r.Logprobs)
	if r.LogprobsIncomplete {
		w.bool("logprobs_complete", false)
	}
	w.adaptations(r.Adaptations)
	w.optObject("provider_data", r.ProviderData)
	w.close('}')
}

func (u Usage) encode(w *writer) {
	w.open('{')
	for f := range usageFields {
		if n, reported := u.Get(f); reported {
			w.int(usageNames[f], n)
		}
	}
	w.close('}')
}

func (w *writer) logprobs(list []TokenLogprob) {
	if len(list) == 0 {
		return
	}
	w.key("logprobs")
	w.open('[')
	for i := range list {
		w.sep()
		w.open('{')
		w.logprob(&list[i].Logprob)
		if len(list[i].Top) > 0 {
			w.key("top")
			w.open('[')
			for j := range list[i].Top {
				w.sep()
				w.open('{')
				w.logprob(&list[i].Top[j])
				w.close('}')
			}
			w.close(']')
		}
		w.close('}')
	}
	w.close(']')
}

func (w *writer) logprob(l *Logprob) {
	w.str("token", l.Token)
	w.float("logprob", l.Logprob)
	if l.Bytes != nil {
		w.key("bytes")
		w.open('[')
		for _, c := range l.Bytes {
			w.sep()
			w.b = appendByteNumber(w.b, c)
		}
		w.close(']')
	}
	w.intPtr("token_id", l.TokenID)
}

func appendByteNumber(b []byte, c byte) []byte {
	if c >= 100 {
		b = append(b, '0'+c/100)
	}
	if c >= 10 {
		b = append(b, '0'+c/10%10)
	}
	return append(b, '0'+c%10)
}

func (w *writer) adaptations(list []Adaptation) {
	if len(list) == 0 {
		return
	}
	w.key("adaptations")
	w.open('[')
	for _, a := range list {
		w.sep()
		w.open('{')
		w.str("field", a.Field)
		w.str("action", a.Action)
		w.str("reason", a.Reason)
		w.optRaw("asked", a.Asked)
		w.optRaw("applied", a.Applied)
		w.close('}')
	}
	w.close(']')
}
