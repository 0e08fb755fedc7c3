//go:build !linux

package soak

import (
	"context"
	"fmt"
	"runtime"
)

// things counts what a process has; only goroutines are known on every platform.
type things struct{ goroutines int }

func inventory() things { return things{goroutines: runtime.NumGoroutine()} }

// left describes what there is now beyond what there was.
func (before things) left(context.Context) []string {
	if extra := runtime.NumGoroutine() - before.goroutines; extra > 0 {
		return []string{fmt.Sprintf("%d goroutines", extra)}
	}
	return nil
}
