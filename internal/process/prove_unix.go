//go:build unix

package process

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// proveBound is how long the kernel may take to kill the throw-away child. It takes less
// than a millisecond; the rest is for a machine that is busy.
const proveBound = 5 * time.Second

// ProveLifeline finds out whether the kernel kills a child when its lifeline is cut, with a
// throw-away child. It takes as long as starting an interpreter. It does not fail: where
// there is no proof the status says why.
func ProveLifeline(ctx context.Context, py Python) LifelineStatus {
	if runtime.GOOS != "linux" {
		return LifelineStatus{Reason: "the platform is " + runtime.GOOS}
	}
	c, err := py.command("prove", map[string]any{})
	if err != nil {
		return LifelineStatus{Reason: err.Error()}
	}
	armed := make(chan struct{})
	var once sync.Once
	c.OnLine = func(stream string, line []byte) {
		if stream == "stdout" && string(line) == "armed" {
			once.Do(func() { close(armed) })
		}
	}
	p, err := launch(ctx, c, launchOptions{})
	if err != nil {
		return LifelineStatus{Reason: err.Error()}
	}
	defer func() {
		p.Kill()
		<-p.Done()
	}()
	select {
	case <-armed:
	case <-p.Done():
		return LifelineStatus{Reason: p.Failure("start", "throw-away child").Message}
	case <-ctx.Done():
		return LifelineStatus{Reason: "no time was left to prove it"}
	}

	p.lifeline.cut() // and nothing else
	timer := time.NewTimer(proveBound)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-timer.C:
		return LifelineStatus{Reason: "the kernel sent no signal when the pipe was closed"}
	}
	if exit := p.Exit(); exit.Signal != syscall.SIGKILL {
		return LifelineStatus{Reason: "the throw-away child " + exit.String()}
	}
	return LifelineStatus{Kernel: true}
}
