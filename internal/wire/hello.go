package wire

import (
	"encoding/json"
	"slices"
)

// Side says which end of the connection this is.
type Side uint8

const (
	// Host is the Go program: it speaks first and opens odd streams.
	Host Side = iota + 1
	// Worker is the process that serves it: it opens even streams.
	Worker
)

// String returns "host" or "worker".
func (s Side) String() string {
	if s == Worker {
		return "worker"
	}
	return "host"
}

func (s Side) peer() Side {
	if s == Worker {
		return Host
	}
	return Worker
}

// firstID is the first stream that the side opens.
func (s Side) firstID() uint64 {
	if s == Worker {
		return 2
	}
	return 1
}

// opens tells whether stream ids like id are the side's to open.
func (s Side) opens(id uint64) bool {
	return id != 0 && (id&1 == 1) == (s != Worker)
}

// Hello is what each side says of itself when the connection starts.
type Hello struct {
	// Protocol is the version of the protocol; NewConn sets it.
	Protocol int `json:"protocol"`
	// Version is the version of the program.
	Version string `json:"version"`
	// Role is "host" or "worker"; NewConn sets it.
	Role string `json:"role"`
	// Capabilities names what the side can do beyond the protocol's base.
	Capabilities []string `json:"capabilities"`
	// MaxFrame is the longest payload it accepts, in bytes; NewConn sets it.
	MaxFrame int `json:"max_frame"`
	// Window is how many bytes of chunks it is ready to receive on a stream before it grants
	// more credit; NewConn sets it.
	Window int `json:"window"`

	// PID, Python, DSPy and Worker describe a worker process, for information.
	PID    int    `json:"pid,omitempty"`
	Python string `json:"python,omitempty"`
	DSPy   string `json:"dspy,omitempty"`
	Worker string `json:"worker,omitempty"`
}

// Supports tells whether the side announced the capability.
func (h Hello) Supports(capability string) bool {
	return slices.Contains(h.Capabilities, capability)
}

// minFrame is the smallest frame limit that a peer may announce: errors must fit in it.
const minFrame = 1024

// parseHello reads the HELLO of a peer that should be side.
func parseHello(payload []byte, side Side) (Hello, error) {
	var h Hello
	if err := json.Unmarshal(payload, &h); err != nil {
		return h, faultf(FaultMalformed, "HELLO cannot be read: %v", err)
	}
	switch {
	case h.Protocol != Version:
		return h, faultf(FaultVersion, "the peer (version %q) speaks protocol version %d, not %d", h.Version, h.Protocol, Version)
	case h.Role != side.String():
		return h, faultf(FaultMalformed, "the peer says it is a %q, not a %q", h.Role, side)
	case h.MaxFrame < minFrame:
		return h, faultf(FaultMalformed, "HELLO has a max_frame of %d bytes, the least is %d", h.MaxFrame, minFrame)
	case h.Window < 1:
		return h, faultf(FaultMalformed, "HELLO has a window of %d bytes, the least is 1", h.Window)
	}
	return h, nil
}
