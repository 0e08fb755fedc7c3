package process_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full tells whether the full form of the fault tests is asked for.
func full() bool { return os.Getenv("DSPEX_FAULTS") == "full" }

// within returns how long something with the stated threshold may take: ten times as long in
// the short form, because the machine does other things meanwhile.
func within(threshold time.Duration) time.Duration {
	if full() {
		return threshold
	}
	return 10 * threshold
}

const (
	goneSmall = 5 * time.Millisecond
	goneLarge = 100 * time.Millisecond
	// large is the memory from which on a process counts as large.
	large = 50 << 20
)

type hostVariant struct {
	name string
	plan hostPlan
	// prepare is run on the observed tree before the host is killed.
	prepare func(t testing.TB, o *observer)
	// delay is a random time between the report and the kill, to hit what cannot be awaited.
	delay time.Duration
	// share is how many of 1,000 rounds this variant gets.
	share int
}

func hostVariants() []hostVariant {
	sleep := []string{"sleep", "3600"}
	spin := &hostOp{"run", map[string]any{"code": "print('spinning', flush=True); sum(range(10**15))"}}
	stop := func(t testing.TB, o *observer) {
		for i := range o.fds {
			if i > 0 { // the fork server is stopped as well, the host is not
				if err := unix.PidfdSendSignal(int(o.fds[i].Fd), unix.SIGSTOP, nil, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// The host is stopped, so that it does not notice that its first n processes die.
	orphan := func(n int) func(t testing.TB, o *observer) {
		return func(t testing.TB, o *observer) {
			if err := unix.PidfdSendSignal(int(o.fds[0].Fd), unix.SIGSTOP, nil, 0); err != nil {
				t.Fatal(err)
			}
			dead := &observer{fds: slices.Clone(o.fds[1 : 1+n])}
			for _, fd := range dead.fds {
				if err := unix.PidfdSendSignal(int(fd.Fd), unix.SIGKILL, nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			dead.gone(t, time.Now())
		}
	}
	family := []hostOp{
		{"spawn", map[string]any{"argv": sleep}},
		{"spawn", map[string]any{"argv": sleep, "new_session": true}},
	}
	return []hostVariant{
		{name: "idle", plan: hostPlan{Workers: 2}, share: 100},
		{name: "idle, spawned", plan: hostPlan{Workers: 2, Spawn: true}, share: 50},
		{name: "holding the GIL in C", plan: hostPlan{Workers: 1, Last: spin}, share: 100},
		{name: "stopped", plan: hostPlan{Workers: 2}, prepare: stop, share: 100},
		{name: "with grandchildren", plan: hostPlan{Workers: 1, Ops: []hostOp{
			{"spawn", map[string]any{"argv": sleep}},
			{"spawn", map[string]any{"argv": sleep, "new_session": true}},
			{"fork_setsid", nil},
			{"forkpty", nil},
		}}, share: 150},
		{name: "with stopped grandchildren, spawned", plan: hostPlan{Workers: 1, Spawn: true, Ops: family}, prepare: stop, share: 50},
		{name: "with a worker that has just died", plan: hostPlan{Workers: 1, Ops: family}, prepare: orphan(2), share: 50},
		{name: "with a worker that has just died, spawned", plan: hostPlan{Workers: 1, Spawn: true, Ops: family}, prepare: orphan(1), share: 50},
		{name: "large", plan: hostPlan{Workers: 1, Ops: []hostOp{
			{"grow", map[string]any{"megabytes": 100}},
		}}, share: 50},
		{name: "between fork and arming", plan: hostPlan{Workers: 1, Gap: true, Warm: "workers:preload_with_gap"}, share: 100},
		{name: "while workers are made", plan: hostPlan{Storm: true}, delay: 10 * time.Millisecond, share: 100},
		{name: "while the fork server imports", plan: hostPlan{Import: true, Warm: "workers:preload_that_hangs"}, share: 100},
	}
}

func TestFault_C5_HostKilledLeavesNothing(t *testing.T) {
	for _, v := range hostVariants() {
		t.Run(v.name, func(t *testing.T) {
			rounds := 1
			if full() {
				rounds = v.share
			}
			var took []time.Duration
			for range rounds {
				took = append(took, v.inTime(t))
			}
			slices.Sort(took)
			t.Logf("%d rounds: p50 %v, max %v", rounds, took[rounds/2], took[rounds-1])
		})
	}
}

// inTime makes a round that keeps its limit. In the short form, where other tests run
// beside it on the same processors, a round that was late is made up to twice again.
func (v hostVariant) inTime(t *testing.T) time.Duration {
	t.Helper()
	for again := range 3 {
		took, limit := v.round(t)
		if took <= within(limit) {
			return took
		}
		if full() || again == 2 {
			t.Errorf("the tree was gone after %v, the limit is %v", took, within(limit))
			return took
		}
		t.Logf("the tree was gone after %v, the limit is %v; once more", took, within(limit))
	}
	return 0
}

// round kills one host and returns how long its tree lived on, and how long it may.
func (v hostVariant) round(t *testing.T) (took, limit time.Duration) {
	t.Helper()
	marker := fmt.Sprintf("DSPEX_TEST_MARKER=%d-%d", os.Getpid(), rand.Uint64())
	plan := v.plan
	plan.Python = python(t, marker)
	if plan.Warm == "" {
		plan.Warm = "workers:preload"
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hostVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close() //nolint:errcheck // the host is dead by then
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var report hostReport
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&report); err != nil || report.Error != "" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the host reports %q, %v", report.Error, err)
	}

	o := &observer{}
	hostFD := o.hold(t, cmd.Process.Pid)
	limit = goneSmall
	for _, pid := range report.Pids {
		o.hold(t, pid)
	}
	// The host counts too: the kernel frees a process's memory before it closes its files.
	if slices.ContainsFunc(o.pids, func(pid int) bool { return resident(pid) > large }) {
		limit = goneLarge
	}
	if v.prepare != nil {
		v.prepare(t, o)
	}
	if v.delay > 0 {
		<-time.After(rand.N(v.delay))
	}
	began := time.Now()
	if err := unix.PidfdSendSignal(hostFD, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	took = o.gone(t, began)
	_ = cmd.Wait()
	// Processes that were not known to us, such as a worker between fork and reply.
	for left := marked(t, marker); len(left) > 0; left = marked(t, marker) {
		if time.Since(began) > within(limit)*10 {
			t.Fatalf("%v live on", left)
		}
	}
	return took, limit
}
