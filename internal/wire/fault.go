package wire

import "fmt"

// Fault says how a peer broke the protocol.
type Fault string

// The faults. Each ends the connection.
const (
	// FaultMagic means that a frame did not start with Magic: the stream is corrupt.
	FaultMagic Fault = "magic"
	// FaultVersion means that the peer speaks another version of the protocol.
	FaultVersion Fault = "version"
	// FaultType means that a frame's type is not known.
	FaultType Fault = "type"
	// FaultTruncated means that the stream ended inside a frame.
	FaultTruncated Fault = "truncated"
	// FaultMalformed means that a payload, or a frame's place in the conversation, is wrong.
	FaultMalformed Fault = "malformed"
	// FaultStream means that a frame belongs to a stream that was never opened, or opens one wrongly.
	FaultStream Fault = "stream"
	// FaultCredit means that the peer sent a chunk without credit.
	FaultCredit Fault = "credit"
)

// ProtocolError says that the peer broke the protocol. It is the cause inside the *status.Error
// that ends the connection.
type ProtocolError struct {
	Fault   Fault
	Message string
}

// Error returns one line.
func (e *ProtocolError) Error() string {
	return "protocol error (" + string(e.Fault) + "): " + e.Message
}

func faultf(fault Fault, format string, args ...any) *ProtocolError {
	return &ProtocolError{Fault: fault, Message: fmt.Sprintf(format, args...)}
}
