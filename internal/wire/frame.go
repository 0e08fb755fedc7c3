// Package wire is the protocol between the host and a worker: frames on a byte stream, and
// on top of them calls in both directions with result items, attachments, credit and
// cancellation. It is the only place that knows bytes. docs/protocol.md specifies it.
package wire

import (
	"encoding/binary"
	"strconv"
)

const (
	// Magic is the first byte of every frame.
	Magic = 0xD5
	// Version is the second byte of every frame: the version of the protocol.
	Version = 1
	// HeaderSize is the length of a frame's header in bytes.
	HeaderSize = 16
)

// Type is a frame's type.
type Type uint8

// The frame types.
const (
	TypeHello Type = iota + 1
	TypeCall
	TypeResult
	TypeError
	TypeChunk
	TypeCredit
	TypeCancel
	TypePing
	TypePong
	TypeDrain
	TypeLog
)

// String returns the type's name, such as "CALL", or "type 77" for one not known.
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "HELLO"
	case TypeCall:
		return "CALL"
	case TypeResult:
		return "RESULT"
	case TypeError:
		return "ERROR"
	case TypeChunk:
		return "CHUNK"
	case TypeCredit:
		return "CREDIT"
	case TypeCancel:
		return "CANCEL"
	case TypePing:
		return "PING"
	case TypePong:
		return "PONG"
	case TypeDrain:
		return "DRAIN"
	case TypeLog:
		return "LOG"
	default:
		return "type " + strconv.Itoa(int(t))
	}
}

// FlagAttachments on CALL and RESULT says that the payload starts with a table of attachment
// sizes; on CHUNK it says that the payload is the next bytes of those attachments, where a
// CHUNK without it is one item of the result stream.
const FlagAttachments = 1

// Header is what precedes every payload.
type Header struct {
	Type   Type
	Flags  uint8
	Length uint32
	Stream uint64
}

// attachments tells whether FlagAttachments is set.
func (h Header) attachments() bool {
	return h.Flags&FlagAttachments != 0
}

// AppendHeader appends the header's 16 bytes to b.
func AppendHeader(b []byte, h Header) []byte {
	b = append(b, Magic, Version, byte(h.Type), h.Flags)
	b = binary.BigEndian.AppendUint32(b, h.Length)
	return binary.BigEndian.AppendUint64(b, h.Stream)
}

// ParseHeader reads a header from the first 16 bytes of b, which must be there. The error is
// a *ProtocolError of kind FaultMagic, FaultVersion or FaultType.
func ParseHeader(b []byte) (Header, error) {
	_ = b[HeaderSize-1]
	if b[0] != Magic {
		return Header{}, faultf(FaultMagic, "a frame starts with 0x%02x, not 0x%02x", b[0], Magic)
	}
	if b[1] != Version {
		return Header{}, faultf(FaultVersion, "the peer speaks protocol version %d, not %d", b[1], Version)
	}
	h := Header{
		Type:   Type(b[2]),
		Flags:  b[3],
		Length: binary.BigEndian.Uint32(b[4:]),
		Stream: binary.BigEndian.Uint64(b[8:]),
	}
	if h.Type < TypeHello || h.Type > TypeLog {
		return Header{}, faultf(FaultType, "unknown frame type %d", b[2])
	}
	return h, nil
}
