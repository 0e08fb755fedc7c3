package scripted_test

import (
	"context"
	"fmt"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// A test's model answers from a list and remembers what it was asked.
func ExampleList() {
	model := scripted.List("Paris", "Rome")
	resp, err := model.Complete(context.Background(), &lm.Request{
		Model: "any", Messages: []lm.Message{lm.User(lm.Text("Capital of France?"))},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp.Text(), "after", model.Calls(), "call")
	// Output: Paris after 1 call
}
