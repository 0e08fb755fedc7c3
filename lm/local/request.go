package local

import (
	"fmt"

	"github.com/dspex/dspex/lm"
)

// prepare returns the request with the model's own defaults, or refuses what llama.cpp
// would ignore without a word, or fail on as if it were broken.
func prepare(req *lm.Request) (*lm.Request, error) {
	for i := range req.Messages {
		for j := range req.Messages[i].Parts {
			if p := &req.Messages[i].Parts[j]; p.Media != nil {
				return nil, refusef(fmt.Sprintf("messages[%d].parts[%d]", i, j), "the model reads text only, and this is %s", p.Type)
			}
		}
	}
	if r := req.Config.Reasoning; r != nil && r.Effort != "off" {
		return nil, refusef("config.reasoning", "the model does not reason")
	}
	prepared := *req
	c := &prepared.Config
	c.Reasoning = nil // It is off, as asked.
	if c.MaxTokens == nil {
		c.MaxTokens = new(DefaultMaxTokens)
	}
	if c.Temperature == nil {
		c.Temperature = new(0.0)
	}
	if c.Seed == nil {
		c.Seed = new(seed(req))
	}
	return &prepared, nil
}

// seed makes answers repeatable, and yet lets the candidates and rollouts of equal requests
// differ, which is what they are for.
func seed(req *lm.Request) int64 {
	const candidates = 1000 // More than anybody asks for at once.
	n := int64(req.Candidate)
	if req.RolloutID != nil {
		n += (*req.RolloutID + 1) * candidates
	}
	const limit = 1 << 31 // llama.cpp's seeds have 32 bits, and the largest means "random".
	return ((n % limit) + limit) % limit
}

func refusef(path, format string, args ...any) *lm.Error {
	return lm.Errorf(lm.KindUnsupportedFeature, provider, "%s: %s", path, fmt.Sprintf(format, args...))
}
