package worker

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

// Process is what a worker runs in. A *process.Process is one.
type Process interface {
	// PID returns the process id, for information.
	PID() int
	// Conn returns the private socket to the process.
	Conn() net.Conn
	// Done is closed once the process has ended and was reaped.
	Done() <-chan struct{}
	// Exit tells how the process ended, once Done is closed.
	Exit() process.Exit
	// Tail returns the last lines that the process printed.
	Tail() []string
	// Kill ends the process without waiting for it. It may be called at any time.
	Kill()
	// Stacks returns the Python stacks of the process's threads, "" if it does not answer.
	Stacks(ctx context.Context) (string, error)
}

var _ Process = (*process.Process)(nil)

// Options says how a worker is started and watched. ID and Process must be given; a zero
// duration means the default.
type Options struct {
	// ID names the worker in errors and logs.
	ID string
	// Process starts the process. Its context ends when Start's does.
	Process func(ctx context.Context) (Process, error)
	// Hello is what to tell the worker. If it has a Version, the worker must have the same.
	Hello wire.Hello
	// MaxFrame, Window, MaxAttachments and TempDir are those of wire.Options.
	MaxFrame, Window int
	MaxAttachments   int64
	TempDir          string
	// Logger gets the worker's LOG frames and what goes wrong with it; nil logs nothing.
	Logger *slog.Logger
	// StartTimeout bounds the time from a running process to its first answer; default 30 s.
	// Python may have to import everything in it.
	StartTimeout time.Duration
	// CancelGrace is how long a canceled call may go on before the worker is killed;
	// default 2 s.
	CancelGrace time.Duration
	// StopGrace is how long a worker that has nothing left to do may take to exit before it
	// is killed; default 2 s.
	StopGrace time.Duration
	// PingBusy is how often a worker with calls in flight is asked for a sign of life;
	// default 5 s.
	PingBusy time.Duration
	// PingIdle is the same for a worker without calls; default 30 s.
	PingIdle time.Duration
	// StuckAfter is how long a sign of life may take before the worker is killed; default
	// 30 s, since a step of user code that does not yield delays it.
	StuckAfter time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.ID == "" || o.Process == nil {
		return o, status.New(status.InvalidArgument, "start", "a worker needs an id and a process")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With(slog.String("worker", o.ID))
	for _, d := range []struct {
		name      string
		value     *time.Duration
		otherwise time.Duration
	}{
		{"start timeout", &o.StartTimeout, 30 * time.Second},
		{"cancel grace", &o.CancelGrace, 2 * time.Second},
		{"stop grace", &o.StopGrace, 2 * time.Second},
		{"time between pings while busy", &o.PingBusy, 5 * time.Second},
		{"time between pings while idle", &o.PingIdle, 30 * time.Second},
		{"time until a worker is stuck", &o.StuckAfter, 30 * time.Second},
	} {
		if *d.value < 0 {
			return o, status.New(status.InvalidArgument, "start", "the %s is negative: %v", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.otherwise
		}
	}
	return o, nil
}
