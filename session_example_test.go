package dspex_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/dspex/dspex"
)

// A session runs programs where a Runtime does, and remembers the conversation.
func ExampleRuntime_Session() {
	ctx := context.Background()
	rt, err := dspex.Open(ctx, dspex.Config{LM: echoing()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	s := rt.Session("user-42", dspex.Soft)
	same := dspex.Predict[question, answer]("Repeat the question.")
	for _, text := range []string{"one", "two"} {
		pred, err := same.Run(ctx, s, question{text})
		if err != nil {
			fmt.Println(err)
			return
		}
		err = s.Append(ctx, map[string]string{"question": text, "answer": pred.Output.Answer})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	turns, err := s.History(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, turn := range turns {
		fmt.Println(string(turn))
	}
	// Output:
	// {"answer":"one","question":"one"}
	// {"answer":"two","question":"two"}
}

// Update counts without losing any of several that count at once.
func ExampleSession_Update() {
	ctx := context.Background()
	rt, err := dspex.Open(ctx, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close(ctx)

	s := rt.Session("user-42", dspex.Soft)
	for range 3 {
		err := s.Update(ctx, "visits", func(old json.RawMessage) (any, error) {
			visits := 0
			if old != nil {
				if err := json.Unmarshal(old, &visits); err != nil {
					return nil, err
				}
			}
			return visits + 1, nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	var visits int
	found, err := s.Get(ctx, "visits", &visits)
	fmt.Println(found, err, visits)
	// Output: true <nil> 3
}
