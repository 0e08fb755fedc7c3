// Package soak loads a Runtime with calls while it makes things go wrong, and counts
// whether any call was lost, answered twice, answered with another's answer, or left
// something behind.
package soak

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
)

// The kinds of chaos.
const (
	// Kill sends SIGKILL to a worker.
	Kill = "kill"
	// Stop sends SIGSTOP to a worker.
	Stop = "stop"
	// Stuck makes a worker hold Python's lock in C code.
	Stuck = "stuck"
	// Exit makes a worker end by itself.
	Exit = "exit"
	// Oversize makes a call with inputs that no frame can carry.
	Oversize = "oversize"
	// Cancel cancels calls.
	Cancel = "cancel"
	// LMError makes the model fail.
	LMError = "lm-error"
)

// Kinds lists the kinds of chaos.
func Kinds() []string { return []string{Kill, Stop, Stuck, Exit, Oversize, Cancel, LMError} }

// Options says what to do.
type Options struct {
	// For is how long calls are made.
	For time.Duration
	// Clients is how many callers make one call after the other.
	Clients int
	// Workers and Slots are the pool's sizes.
	Workers, Slots int
	// Latency is how long the model takes to answer.
	Latency time.Duration
	// Chaos lists what goes wrong; none means nothing does.
	Chaos []string
	// Seed makes the choices repeatable; their moments are not.
	Seed uint64
}

// Check reports the first option that cannot be used, with code invalid_argument.
func (o Options) Check() error {
	bad := func(format string, args ...any) error {
		return status.New(status.InvalidArgument, "soak", format, args...)
	}
	switch {
	case o.For <= 0:
		return bad("for is %v: want a duration above zero, such as 60s", o.For)
	case o.Clients < 1:
		return bad("clients is %d: want at least 1", o.Clients)
	case o.Workers < 1:
		return bad("workers is %d: want at least 1", o.Workers)
	case o.Slots < 1:
		return bad("slots is %d: want at least 1", o.Slots)
	case o.Latency < 0:
		return bad("lm-latency is %v: want zero or more", o.Latency)
	}
	for _, kind := range o.Chaos {
		if slices.Contains(Kinds(), kind) {
			continue
		}
		if near, ok := nearest.Nearest(kind, Kinds()); ok {
			return bad("unknown chaos %q (did you mean %s?)", kind, strconv.Quote(near))
		}
		return bad("unknown chaos %q; known are %s", kind, strings.Join(Kinds(), ", "))
	}
	return nil
}

// deadly reports whether workers die.
func (o Options) deadly() bool {
	return o.has(Kill) || o.has(Stop) || o.has(Stuck) || o.has(Exit)
}

func (o Options) has(kind string) bool { return slices.Contains(o.Chaos, kind) }
