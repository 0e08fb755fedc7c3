package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// observer holds processes by their pidfds and sees them end.
type observer struct {
	fds  []unix.PollFd
	pids []int
}

// hold adds a process, which must be known to live.
func (o *observer) hold(t testing.TB, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd_open %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	o.fds = append(o.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	o.pids = append(o.pids, pid)
	return fd
}

// gone waits until all processes have exited and returns how long that took since began.
func (o *observer) gone(t testing.TB, began time.Time) time.Duration {
	t.Helper()
	for {
		left := o.fds[:0:0]
		for _, fd := range o.fds {
			if fd.Revents == 0 {
				left = append(left, fd)
			}
		}
		if len(left) == 0 {
			return time.Since(began)
		}
		remaining := patience - time.Since(began)
		if remaining <= 0 {
			t.Fatalf("%d of the processes %v live on: %v", len(left), o.pids, o.states())
		}
		if _, err := unix.Poll(left, int(remaining.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		o.fds = left
	}
}

// states describes the processes that are left.
func (o *observer) states() []string {
	var found []string
	for _, pid := range o.pids {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			found = append(found, strings.Join(strings.Fields(string(stat))[:6], " "))
		}
	}
	return found
}

// marked returns the processes that have marker in their environment and have not exited.
func marked(t testing.TB, marker string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ")) // empty for a zombie
		if err != nil || !bytes.Contains(env, []byte(marker)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		found = append(found, pid)
	}
	return found
}

// children returns the state of each child of this process, zombies included.
func children(t testing.TB) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if ppid, _ := strconv.Atoi(fields[1]); ppid == os.Getpid() {
			found = append(found, fmt.Sprintf("%s (%s)", strings.Fields(string(text))[1], fields[0]))
		}
	}
	return found
}

// descriptors returns what each open descriptor of this process is.
func descriptors(t testing.TB) map[string]string {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			found[filepath.Base(link)] = target
		}
	}
	return found
}

// resident returns how much memory a process occupies, in bytes.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
