package soak

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// things counts what a process has.
type things struct {
	goroutines, files int
}

func inventory() things {
	entries, _ := os.ReadDir("/proc/self/fd")
	return things{goroutines: runtime.NumGoroutine(), files: len(entries)}
}

// left describes what there is now beyond what there was: processes and zombies, files,
// goroutines. Goroutines that are ending have a moment to do so.
func (before things) left(ctx context.Context) []string {
	var left []string
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		data, _ := os.ReadFile(list) // A thread may have ended.
		for pid := range strings.FieldsSeq(string(data)) {
			left = append(left, "process "+pid)
		}
	}
	now := inventory()
	for range 100 {
		if now.goroutines <= before.goroutines && now.files <= before.files {
			break
		}
		timer := time.NewTimer(10 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		now = inventory()
	}
	if extra := now.files - before.files; extra > 0 {
		left = append(left, fmt.Sprintf("%d files", extra))
	}
	if extra := now.goroutines - before.goroutines; extra > 0 {
		left = append(left, fmt.Sprintf("%d goroutines", extra))
	}
	return left
}
