package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/store/sqlite"
)

// What a session remembers is there after a restart.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	visit := func() error { // What one process does.
		store, err := sqlite.Open(ctx, filepath.Join(dir, "sessions.db"))
		if err != nil {
			return err
		}
		defer store.Close()
		rt, err := dspex.Open(ctx, dspex.Config{Store: store, Settings: dspex.Settings{Lazy: true}})
		if err != nil {
			return err
		}
		defer rt.Close(ctx)

		s := rt.Session("user-42", dspex.Soft)
		name := "stranger"
		if _, err := s.Get(ctx, "name", &name); err != nil {
			return err
		}
		fmt.Println("Hello,", name)
		return s.Set(ctx, "name", "Ada")
	}
	for range 2 {
		if err := visit(); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// Hello, stranger
	// Hello, Ada
}
