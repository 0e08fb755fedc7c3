package local_test

import (
	"context"
	"fmt"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/local"
)

// A model on this machine answers without a key.
func Example() {
	ctx := context.Background()
	model, err := local.Open(ctx, local.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = model.Close(ctx) }()

	resp, err := model.Complete(ctx, &lm.Request{
		Model:    local.Name,
		Messages: []lm.Message{lm.User(lm.Text("Name the capital of France."))},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp.Text())
}
