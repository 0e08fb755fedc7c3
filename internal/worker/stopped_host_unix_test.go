//go:build unix

package worker

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostRole makes the test binary play the host that is stopped.
const hostRole = "DSPEX_TEST_STOPPED_HOST"

func TestAHostThatWasStoppedForgivesItsWorkers(t *testing.T) {
	if os.Getenv(hostRole) != "" {
		playHost(t)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	host := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	host.Env = append(os.Environ(), hostRole+"=1")
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "serving") {
	}
	for range 3 {
		if err := host.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond) // a ping may take 150 ms
		if err := host.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stdin, "how is it?\n"); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			text := lines.Text()
			if text == "lives" {
				break
			}
			t.Log(text)
		}
		if lines.Err() != nil {
			t.Fatal(lines.Err())
		}
	}
	_ = stdin.Close()
	rest, _ := io.ReadAll(stdout)
	if err := host.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, rest)
	}
}

// playHost runs a worker with a call in flight and answers each line of its input once the
// worker has answered a few more pings.
func playHost(t *testing.T) {
	p := newPeer(script{"program.run": block})
	w := start(t, p, func(o *Options) {
		o.PingBusy, o.StuckAfter = time.Millisecond, 150*time.Millisecond
	})
	p.slow.Store(int64(30 * time.Millisecond)) // so that a ping is under way whenever the host is stopped
	c := run(t.Context(), w, Call{Method: "program.run"})
	_, _ = io.WriteString(os.Stdout, "\nserving\n")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		select {
		case <-w.Done():
			t.Fatalf("the worker was killed: %v", w.Err())
		case <-c.done:
			t.Fatalf("the call ended: %v", c.err)
		case <-time.After(200 * time.Millisecond): // long enough for a wrong verdict
		}
		_, _ = io.WriteString(os.Stdout, "lives\n")
	}
}
