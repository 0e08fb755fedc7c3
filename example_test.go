package dspex_test

import (
	"context"
	"fmt"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm/scripted"
)

type Review struct {
	Text string `json:"text" dspy:"a customer's review"`
}

type Opinion struct {
	Sentiment string   `json:"sentiment" dspy:"how the customer feels" enum:"positive,negative,mixed"`
	Topics    []string `json:"topics" dspy:"what the review is about"`
}

// A program is declared with Go types; the model here is a script, any lm.Model does.
func ExamplePredict() {
	ctx := context.Background()
	model := scripted.List(`{"sentiment": "mixed", "topics": ["battery", "price"]}`)
	rt, err := dspex.Open(ctx, dspex.Config{LM: model})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	opinion := dspex.Predict[Review, Opinion]("Read the review.", dspex.WithAdapter("json"))
	pred, err := opinion.Run(ctx, rt, Review{Text: "Great battery, but far too expensive."})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pred.Output.Sentiment, pred.Output.Topics, len(pred.Calls))
	// Output: mixed [battery price] 1
}

// ChainOfThought lets the model reason first.
func ExampleChainOfThought() {
	ctx := context.Background()
	model := scripted.List(`{"reasoning": "Two and two.", "answer": 4}`)
	rt, err := dspex.Open(ctx, dspex.Config{LM: model})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	type Sum struct {
		Answer int `json:"answer"`
	}
	type Task struct {
		Task string `json:"task"`
	}
	sum := dspex.ChainOfThought[Task, Sum]("", dspex.WithAdapter("json"))
	pred, err := sum.Run(ctx, rt, Task{"2 + 2"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pred.Reasoning, pred.Output.Answer)
	// Output: Two and two. 4
}

// A signature may also be text; inputs and outputs are then maps.
func ExampleParseSignature() {
	signature, err := dspex.ParseSignature("context: list[str], question -> answer: str, score: float")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	model := scripted.List(`{"answer": "blue", "score": 0.9}`)
	rt, err := dspex.Open(ctx, dspex.Config{LM: model})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	program := dspex.Predict[dspex.Values, dspex.Values]("",
		dspex.WithSignature(signature), dspex.WithAdapter("json"))
	pred, err := program.Run(ctx, rt, dspex.Values{
		"context":  []string{"The sky is blue."},
		"question": "What colour is the sky?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pred.Output["answer"], pred.Output["score"])
	// Output: blue 0.9
}

// Batch runs a program on many inputs and yields the results as they are ready.
func ExampleProgram_Batch() {
	ctx := context.Background()
	rt, err := dspex.Open(ctx, dspex.Config{LM: echoing()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	same := dspex.Predict[question, answer]("Repeat the question.")
	inputs := []question{{"one"}, {"two"}, {"three"}}
	answers := make([]string, len(inputs))
	for result := range same.Batch(ctx, rt, inputs, dspex.Concurrency(2)) {
		if result.Err != nil {
			fmt.Println(result.Err)
			return
		}
		answers[result.Index] = result.Prediction.Output.Answer
	}
	fmt.Println(answers)
	// Output: [one two three]
}

// An error says what kind of failure it is, and what the failed call cost.
func ExampleError() {
	ctx := context.Background()
	rt, err := dspex.Open(ctx, dspex.Config{LM: scripted.List("I would rather not say.")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	_, err = dspex.Predict[question, answer]("").Run(ctx, rt, question{"Who?"}, dspex.WithAdapter("json"))
	if dspex.CodeOf(err) == dspex.CodeParseFailed {
		fmt.Println("the model did not answer in the form that was asked for")
	}
	// Output: the model did not answer in the form that was asked for
}
