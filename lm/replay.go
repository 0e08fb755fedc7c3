package lm

import "iter"

// Replay returns the stream that a whole answer would have come as: a Stream made of
// a Complete. A failure of complete is yielded as the stream's error. Parts that have
// no delta in DSPy's protocol (refusal, document, video, binary, data) fail with
// KindUnsupportedFeature.
func Replay(complete func() (*Response, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		resp, err := complete()
		if err != nil {
			yield(Event{}, err)
			return
		}
		deltas, err := deltasOf(resp)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if !yield(Event{Type: EventStart, ID: resp.ID, Model: resp.Model, Adaptations: resp.Adaptations}, nil) {
			return
		}
		for i := range deltas {
			if !yield(Event{Type: EventDelta, Delta: &deltas[i]}, nil) {
				return
			}
		}
		end := Event{Type: EventEnd, FinishReason: resp.FinishReason, ProviderData: resp.ProviderData}
		if resp.Usage != (Usage{}) {
			end.Usage = new(resp.Usage)
		}
		yield(end, nil)
	}
}

func deltasOf(resp *Response) ([]Delta, error) {
	var deltas []Delta
	for i, p := range resp.Message.Parts {
		d := Delta{PartIndex: i}
		switch p.Type {
		case PartText:
			d.Type, d.Text = DeltaText, p.Text
		case PartThinking:
			d.Type, d.Text = DeltaThinking, p.Text
		case PartToolCall:
			d.Type, d.ID, d.Name, d.Input = DeltaToolCall, p.ToolCall.ID, p.ToolCall.Name, string(p.ToolCall.Input)
		case PartCitation:
			d.Type, d.Citation = DeltaCitation, &CitationDelta{
				Text: present(p.Citation.Text), URL: present(p.Citation.URL), Title: present(p.Citation.Title),
			}
		case PartImage, PartAudio:
			if p.Media.Path != "" || p.Type == PartAudio && p.Media.Data == "" {
				return nil, Errorf(KindUnsupportedFeature, "", "%s without inline data cannot be streamed", p.Type)
			}
			d.Type = DeltaType(p.Type)
			d.Media = &MediaDelta{
				Data: present(p.Media.Data), URL: present(p.Media.URL), FileID: present(p.Media.FileID),
				MediaType: p.Media.MediaType,
			}
		default:
			return nil, Errorf(KindUnsupportedFeature, "", "an answer with a %s part cannot be streamed", p.Type)
		}
		deltas = append(deltas, d)
		for _, c := range p.Continuation {
			deltas = append(deltas, Delta{Type: DeltaContinuation, PartIndex: i, Continuation: &c})
		}
	}
	for i := range deltas {
		if deltas[i].Type == DeltaText {
			deltas[i].Logprobs, deltas[i].LogprobsIncomplete = resp.Logprobs, resp.LogprobsIncomplete
			break
		}
	}
	for _, c := range resp.Message.Continuation {
		deltas = append(deltas, Delta{Type: DeltaContinuation, WholeMessage: true, Continuation: &c})
	}
	return deltas, nil
}

func present(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
