package process

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/status"
)

// runHead is the body of program.run without the inputs.
type runHead struct {
	Program string          `json:"program"`
	LM      *runLM          `json:"lm"`
	Adapter runAdapter      `json:"adapter"`
	Demos   json.RawMessage `json:"demos,omitempty"`
	Rollout *int64          `json:"rollout_id,omitempty"`
	Timeout int64           `json:"timeout_ms,omitempty"`
}

type runAdapter struct {
	Name string `json:"name"`
}

type runLM struct {
	Model    string      `json:"model"`
	Supports runSupports `json:"supports"`
}

type runSupports struct {
	ResponseSchema  bool     `json:"response_schema"`
	FunctionCalling bool     `json:"function_calling"`
	Reasoning       bool     `json:"reasoning"`
	Params          []string `json:"params"`
}

// runBody writes the body of program.run. The inputs may be large and are JSON already,
// so they are put in as they are.
func runBody(call *backend.Call, remaining time.Duration) ([]byte, error) {
	head := runHead{
		Program: call.Program.Hash,
		Adapter: runAdapter{call.Adapter},
		Demos:   call.Demos,
		Rollout: call.Rollout,
		Timeout: max(remaining.Milliseconds(), 0),
	}
	if call.LM != nil {
		c := call.LM.Capabilities
		head.LM = &runLM{Model: call.LM.Route, Supports: runSupports{
			ResponseSchema:  c.ResponseSchema,
			FunctionCalling: c.FunctionCalling,
			Reasoning:       c.Reasoning,
			Params:          []string{},
		}}
		// DSPy asks for a format only where the parameter is listed as well.
		if c.ResponseSchema || c.JSONObject {
			head.LM.Supports.Params = append(head.LM.Supports.Params, "response_format")
		}
		head.LM.Supports.Params = append(head.LM.Supports.Params, c.Params...)
	}
	rest, err := json.Marshal(head)
	if err != nil {
		return nil, status.Wrap(status.Internal, "run", err, "the call cannot be encoded: %v", err)
	}
	return slices.Concat([]byte(`{"inputs":`), call.Inputs, []byte{','}, rest[1:]), nil
}
