//go:build linux

package dspex_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/dspex/dspex"
)

// After Close nothing is left: no process, no zombie, no goroutine, no file, no
// temporary file. It runs alone, since what is left is told by counting.
func TestFault_C4_CloseLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	program := dspex.Predict[question, answer]("")
	use := func() {
		rt, err := dspex.Open(t.Context(), dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
		if err != nil {
			t.Fatal(err)
		}
		for r := range program.Batch(t.Context(), rt, make([]question, 50)) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := program.Run(canceled, rt, question{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled call: %v", err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
		if _, err := program.Run(t.Context(), rt, question{}); !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("a call after close: %v, want closed", err)
		}
	}
	use() // What Go keeps for itself, such as the poller's files, is there now.
	files, goroutines := descriptors(t), goleak.IgnoreCurrent()
	for range rounds(100, 2) {
		use()
		if pids := children(t); len(pids) != 0 {
			t.Fatalf("processes or zombies are left: %v", pids)
		}
		if now := descriptors(t); len(now) != len(files) {
			t.Fatalf("files are left: %v, before there were %v", now, files)
		}
		if err := goleak.Find(goroutines); err != nil { // One that has been waited for may still be returning.
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// When the host is killed, the kernel ends everything that it has started.
func TestFault_C5_HostKillEndsTheTree(t *testing.T) {
	states := []string{"idle", "calling", "holding the GIL", "subprocess", "subprocess in a session of its own"}
	for _, stopped := range []bool{false, true} {
		for _, state := range states {
			if stopped && state != "calling" && !full() {
				continue
			}
			t.Run(fmt.Sprintf("%s, stopped=%t", state, stopped), func(t *testing.T) {
				var slowest time.Duration
				for range rounds(20, 1) {
					slowest = max(slowest, killHost(t, state, stopped))
				}
				t.Logf("gone after at most %v", slowest)
				// Each process is over 50 MB with the pages that it shares.
				if limit := within(100 * time.Millisecond); slowest > limit {
					t.Errorf("the last process was gone after %v, want at most %v", slowest, limit)
				}
			})
		}
	}
}

// killHost starts a host, kills it, and returns how long its last descendant lived on.
func killHost(t *testing.T, state string, stopped bool) time.Duration {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), hostVariable+"="+state)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the host said %q: %v\n%s", line, err, &stderr)
	}
	var held []unix.PollFd
	for _, pid := range descendants(t, cmd.Process.Pid) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("pidfd of %d: %v", pid, err)
		}
		defer func() { _ = unix.Close(fd) }() //nolint:gocritic // they are few, and needed until the end
		held = append(held, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if stopped {
			if err := unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0); err != nil {
				t.Fatalf("stopping %d: %v", pid, err)
			}
		}
	}
	if len(held) < 3 { // The fork server and two workers.
		t.Fatalf("the host has only %d processes", len(held))
	}
	start := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for len(held) > 0 {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%d processes live on after 10 s", len(held))
		}
		if _, err := unix.Poll(held, 1000); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		held = slices.DeleteFunc(held, func(p unix.PollFd) bool { return p.Revents != 0 })
	}
	return time.Since(start)
}

// descendants lists the processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil { // The thread has ended.
			continue
		}
		for field := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(append(pids, child), descendants(t, child)...)
		}
	}
	return pids
}
