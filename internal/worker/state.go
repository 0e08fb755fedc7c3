package worker

import "fmt"

// State says what a worker does.
type State uint8

// The states. Stopped and Lost are final; every other state can end in both.
const (
	// Starting means that the worker has not answered yet.
	Starting State = iota
	// Ready means that the worker has no call.
	Ready
	// Busy means that the worker has calls.
	Busy
	// Draining means that the worker gets no more calls and finishes those it has.
	Draining
	// Stopping means that the worker has no calls any more, or must not have, and is to exit.
	Stopping
	// Stopped means that the worker has ended as it was asked to.
	Stopped
	// Lost means that the worker has ended by itself, or was killed because it misbehaved.
	Lost
)

// String returns the state's name in lower case.
func (s State) String() string {
	names := [...]string{
		Starting: "starting", Ready: "ready", Busy: "busy", Draining: "draining",
		Stopping: "stopping", Stopped: "stopped", Lost: "lost",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state_%d", uint8(s))
}

// follows reports whether a worker may go from s to next.
func (s State) follows(next State) bool {
	switch s {
	case Starting:
		return next == Ready || next == Stopping || next == Lost
	case Ready:
		return next == Busy || next == Draining || next == Stopping || next == Lost
	case Busy:
		return next == Ready || next == Draining || next == Stopping || next == Lost
	case Draining:
		return next == Stopping || next == Lost
	case Stopping:
		return next == Stopped || next == Lost
	case Stopped, Lost:
		return false
	default:
		return false
	}
}

// enter changes the state if that is legal and reports whether it was. The caller holds mu.
func (w *Worker) enter(next State) bool {
	if !w.state.follows(next) {
		return false
	}
	w.state = next
	return true
}

// final reports whether the worker has ended. The caller holds mu.
func (w *Worker) final() bool { return w.state == Stopped || w.state == Lost }
