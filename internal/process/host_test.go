//go:build unix

package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/dspex/dspex/internal/process"
)

// hostVariable makes the test binary be a host that a test kills. Its value is a hostPlan.
const hostVariable = "DSPEX_TEST_HOST"

// hostPlan says what a host does.
type hostPlan struct {
	Python  process.Python
	Warm    string
	Spawn   bool
	Workers int
	// Ops are performed by every worker in turn; results that are numbers are pids.
	Ops []hostOp
	// Last is sent to every worker without waiting for an answer.
	Last *hostOp
	// Storm makes the host make and kill workers until it is killed.
	Storm bool
	// Import makes the host report the line that the fork server prints while it imports.
	Import bool
	// Gap makes the host wait for what the workers print, to the fork server's standard
	// error, before they are armed.
	Gap bool
}

type hostOp struct {
	Op   string
	Args map[string]any
}

// hostReport is what a host tells before it waits to be killed.
type hostReport struct {
	Pids  []int
	Error string
}

// host carries out the plan, reports on standard output and waits to be killed. It ends with
// its input, so that a test that fails leaves nothing behind.
func host() int {
	orphaned := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(1)
	}()
	var plan hostPlan
	report := hostReport{}
	if err := json.Unmarshal([]byte(os.Getenv(hostVariable)), &plan); err != nil {
		report.Error = err.Error()
	} else if err := plan.run(&report); err != nil {
		report.Error = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(report)
	<-orphaned
	return 0
}

func (plan *hostPlan) run(report *hostReport) error {
	o := process.ServerOptions{Python: plan.Python, Main: "workers:main", Warm: plan.Warm, Spawn: plan.Spawn}
	printed := make(chan string, 100)
	o.OnLine = func(_ string, line []byte) { printed <- string(line) }
	if plan.Import {
		go func() { _, _ = process.StartServer(context.Background(), o) }()
		var pid int
		if _, err := fmt.Sscanf(<-printed, "hanging %d", &pid); err != nil {
			return err
		}
		report.Pids = append(report.Pids, pid)
		return nil
	}
	s, err := process.StartServer(context.Background(), o)
	if err != nil {
		return err
	}
	if f := s.ForkServer(); f != nil {
		report.Pids = append(report.Pids, f.PID())
	}
	if plan.Storm {
		go storm(s)
		go storm(s)
	}
	for i := range plan.Workers {
		p, err := s.Worker(context.Background(), process.WorkerOptions{ID: fmt.Sprintf("w%d", i), OnLine: o.OnLine})
		if err != nil {
			return err
		}
		report.Pids = append(report.Pids, p.PID())
		if plan.Gap {
			<-printed
			continue
		}
		w := &peer{p, bufio.NewReader(p.Conn())}
		var m map[string]any
		if err := w.receive(&m); err != nil {
			return err
		}
		for _, op := range plan.Ops {
			if err := w.send(op.Op, op.Args); err != nil {
				return err
			}
			if err := w.receive(&m); err != nil {
				return err
			}
			if pid, ok := m["result"].(float64); ok {
				report.Pids = append(report.Pids, int(pid))
			}
		}
		if plan.Last != nil {
			if err := w.send(plan.Last.Op, plan.Last.Args); err != nil {
				return err
			}
			<-printed // it has begun
		}
	}
	return nil
}

// storm makes workers and kills them at once.
func storm(s *process.Server) {
	for {
		p, err := s.Worker(context.Background(), process.WorkerOptions{ID: "storm"})
		if err != nil {
			return
		}
		p.Kill()
		<-p.Done()
		_ = p.Conn().Close()
	}
}
