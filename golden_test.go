package dspex_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm/scripted"
)

// The prompts that plain DSPy 3.4.1 sends for `question -> answer: int`, input "Q?".
const (
	goldenHead = "Your input fields are:\n1. `question` (str):\nYour output fields are:\n1. `answer` (int):\n" +
		"All interactions will be structured in the following way, with the appropriate values filled in.\n\n"
	goldenNote = "        # note: the value you produce must be a single int value"
	goldenTail = "\nIn adhering to this structure, your objective is: \n" +
		"        Given the fields `question`, produce the fields `answer`."
)

func TestPromptsAreThoseOfPlainDSPyByteForByte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		adapter, answer, system, user string
	}{
		{
			adapter: "chat",
			answer:  "[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]",
			system: goldenHead + "[[ ## question ## ]]\n{question}\n\n[[ ## answer ## ]]\n{answer}" + goldenNote +
				"\n\n[[ ## completed ## ]]" + goldenTail,
			user: "[[ ## question ## ]]\nQ?\n\nRespond with the corresponding output fields, starting with the field " +
				"`[[ ## answer ## ]]` (must be formatted as a valid Python int), and then ending with the marker for " +
				"`[[ ## completed ## ]]`.",
		},
		{
			adapter: "json",
			answer:  `{"answer": 42}`,
			system: goldenHead + "Inputs will have the following structure:\n\n[[ ## question ## ]]\n{question}\n\n" +
				"Outputs will be a JSON object with the following fields.\n\n{\n  \"answer\": \"{answer}" + goldenNote +
				"\"\n}" + goldenTail,
			user: "[[ ## question ## ]]\nQ?\n\nRespond with a JSON object in the following order of fields: `answer` " +
				"(must be formatted as a valid Python int).",
		},
		{
			adapter: "xml",
			answer:  "<answer>\n42\n</answer>",
			system: goldenHead + "<question>\n{question}\n</question>\n\n<answer>\n{answer}" + goldenNote +
				"\n</answer>" + goldenTail,
			user: "<question>\nQ?\n</question>\n\nRespond with the corresponding output fields wrapped in XML tags `<answer>`.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.adapter, func(t *testing.T) {
			t.Parallel()
			model := scripted.List(tt.answer)
			rt := open(t, dspex.Config{LM: model})
			signature, err := dspex.ParseSignature("question -> answer: int")
			if err != nil {
				t.Fatal(err)
			}
			program := dspex.Predict[dspex.Values, dspex.Values]("",
				dspex.WithSignature(signature), dspex.WithAdapter(tt.adapter))
			pred, err := program.Run(t.Context(), rt, dspex.Values{"question": "Q?"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(dspex.Values{"answer": int64(42)}, pred.Output); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			requests := model.Requests()
			if len(requests) != 1 {
				t.Fatalf("DSPy made %d requests, want 1", len(requests))
			}
			if diff := cmp.Diff(tt.system, requests[0].System); diff != "" {
				t.Errorf("system message (-want +got):\n%s", diff)
			}
			if got := len(requests[0].Messages); got != 1 {
				t.Fatalf("%d messages, want 1", got)
			}
			if diff := cmp.Diff(tt.user, textOf(requests[0].Messages[0])); diff != "" {
				t.Errorf("user message (-want +got):\n%s", diff)
			}
		})
	}
}
