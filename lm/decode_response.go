package lm

func (r *Response) decode(d *reader) error {
	complete := true
	err := d.object(func(key []byte) error {
		switch string(key) {
		case "id":
			return d.str(&r.ID)
		case "model":
			return d.str(&r.Model)
		case "message":
			return r.Message.decode(d)
		case "finish_reason":
			return d.finishReason(&r.FinishReason)
		case "usage":
			return r.Usage.decode(d)
		case "logprobs":
			return d.logprobs(&r.Logprobs)
		case "logprobs_complete":
			return d.boolean(&complete)
		case "provider_data":
			return d.rawObject(&r.ProviderData)
		case "adaptations":
			return d.adaptations(&r.Adaptations)
		default:
			return d.skip()
		}
	})
	r.LogprobsIncomplete = !complete
	return err
}

func (r *reader) finishReason(dst *FinishReason) error {
	if err := r.str((*string)(dst)); err != nil {
		return err
	}
	switch *dst {
	case "", FinishStop, FinishLength, FinishToolCall, FinishContentFilter, FinishError:
		return nil
	default:
		return r.errorf("%q is not a finish reason", *dst)
	}
}

func (u *Usage) decode(r *reader) error {
	return r.object(func(key []byte) error {
		for f := range usageFields {
			if string(key) != usageNames[f] {
				continue
			}
			if r.null() {
				return nil
			}
			var n int64
			if err := r.integer(&n); err != nil {
				return err
			}
			u.Set(f, n)
			return nil
		}
		return r.skip()
	})
}

func (r *reader) logprobs(dst *[]TokenLogprob) error {
	return r.array(func() error {
		*dst = append(*dst, TokenLogprob{})
		t := &(*dst)[len(*dst)-1]
		return t.decode(r, &t.Top)
	})
}

// decode reads a token; top is where its alternatives go, nil for an alternative.
func (l *Logprob) decode(r *reader, top *[]Logprob) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "token":
			return r.str(&l.Token)
		case "logprob":
			return r.float(&l.Logprob)
		case "bytes":
			if r.null() {
				return nil
			}
			l.Bytes = []byte{}
			return r.array(func() error {
				var n int64
				if err := r.integer(&n); err != nil {
					return err
				}
				if n < 0 || n > 255 {
					return r.errorf("%d is not a byte", n)
				}
				l.Bytes = append(l.Bytes, byte(n))
				return nil
			})
		case "token_id":
			return r.intPtr(&l.TokenID)
		case "top":
			if top == nil {
				return r.skip()
			}
			return r.array(func() error {
				*top = append(*top, Logprob{})
				return (*top)[len(*top)-1].decode(r, nil)
			})
		default:
			return r.skip()
		}
	})
}

func (r *reader) adaptations(dst *[]Adaptation) error {
	return r.array(func() error {
		var a Adaptation
		err := r.object(func(key []byte) error {
			switch string(key) {
			case "field":
				return r.str(&a.Field)
			case "action":
				return r.str(&a.Action)
			case "reason":
				return r.str(&a.Reason)
			case "asked":
				return r.raw(&a.Asked)
			case "applied":
				return r.raw(&a.Applied)
			default:
				return r.skip()
			}
		})
		*dst = append(*dst, a)
		return err
	})
}
