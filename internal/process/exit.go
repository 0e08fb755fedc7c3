package process

import (
	"fmt"
	"syscall"
)

// Exit tells how a process ended.
type Exit struct {
	// Code is the exit status, or -1 when a signal ended the process or nothing is known.
	Code int
	// Signal is the signal that ended the process, 0 if none did.
	Signal syscall.Signal
	// Core is true when the kernel wrote a core dump.
	Core bool
	// Killed is true when [Process.Kill] was called and the process ended by SIGKILL.
	Killed bool
	// Unknown is true when somebody else took the exit status: the host waits for all
	// children of this process, as the first process of a container may do.
	Unknown bool
}

// String returns, for example, "exited with status 1" or "was killed by SIGSEGV".
func (e Exit) String() string {
	by := ""
	if e.Killed {
		by = " on request"
	}
	switch {
	case e.Unknown:
		return "ended, and its exit status was taken by another part of this program"
	case e.Signal != 0:
		core := ""
		if e.Core {
			core = " (core dumped)"
		}
		return "was killed by " + signalName(e.Signal) + core + by
	default:
		return fmt.Sprintf("exited with status %d", e.Code) + by
	}
}
