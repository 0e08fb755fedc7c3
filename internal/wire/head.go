package wire

import (
	"encoding/binary"
	"math"
)

const (
	maxMethod      = 255 // the length is one byte
	maxAttachments = math.MaxUint16
)

// CallHead is what precedes the body in a CALL's payload.
type CallHead struct {
	// Method is 1 to 255 bytes of ASCII.
	Method []byte
	// Parent is the stream on whose behalf the call is made, 0 for none.
	Parent uint64
	// Sizes are the attachments' sizes in bytes.
	Sizes []int64
}

// AppendCallHead appends the head to b. With sizes, the frame needs FlagAttachments. The caller
// has checked the lengths of the method and of the sizes.
func AppendCallHead(b []byte, method string, parent uint64, sizes []int64) []byte {
	b = append(b, byte(len(method)))
	b = append(b, method...)
	b = binary.BigEndian.AppendUint64(b, parent)
	return appendSizes(b, sizes)
}

// AppendResultHead appends what precedes the body in a RESULT's payload: nothing without sizes.
func AppendResultHead(b []byte, sizes []int64) []byte {
	return appendSizes(b, sizes)
}

func appendSizes(b []byte, sizes []int64) []byte {
	if len(sizes) == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(sizes)))
	for _, size := range sizes {
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	}
	return b
}

// ParseCall splits a CALL's payload into head and body. Method and body are parts of payload.
// The error is a *ProtocolError of kind FaultMalformed.
func ParseCall(payload []byte, flags uint8) (CallHead, []byte, error) {
	if len(payload) == 0 {
		return CallHead{}, nil, faultf(FaultMalformed, "CALL is empty")
	}
	end := 1 + int(payload[0])
	switch {
	case end == 1:
		return CallHead{}, nil, faultf(FaultMalformed, "CALL has no method")
	case len(payload) < end+8:
		return CallHead{}, nil, faultf(FaultMalformed, "CALL ends inside its head")
	}
	head := CallHead{Method: payload[1:end], Parent: binary.BigEndian.Uint64(payload[end:])}
	for _, b := range head.Method {
		if b >= 0x80 {
			return CallHead{}, nil, faultf(FaultMalformed, "CALL has a method that is not ASCII")
		}
	}
	body := payload[end+8:]
	if flags&FlagAttachments == 0 {
		return head, body, nil
	}
	var err error
	head.Sizes, body, err = parseSizes(body, TypeCall)
	return head, body, err
}

// ParseResult splits a RESULT's payload into the attachment sizes and the body, which is a part
// of payload. The error is a *ProtocolError of kind FaultMalformed.
func ParseResult(payload []byte, flags uint8) ([]int64, []byte, error) {
	if flags&FlagAttachments == 0 {
		return nil, payload, nil
	}
	return parseSizes(payload, TypeResult)
}

// parseSizes reads an attachment table. A size beyond 63 bits is kept as the largest int64, which
// no limit admits.
func parseSizes(b []byte, t Type) ([]int64, []byte, error) {
	if len(b) < 2 {
		return nil, nil, faultf(FaultMalformed, "%v ends inside its attachment table", t)
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) < 8*n {
		return nil, nil, faultf(FaultMalformed, "%v ends inside its attachment table", t)
	}
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = int64(min(binary.BigEndian.Uint64(b[8*i:]), math.MaxInt64))
	}
	return sizes, b[8*n:], nil
}

// sum adds attachment sizes. It stops at the largest int64 and is -1 if one is negative.
func sum(sizes []int64) int64 {
	var total int64
	for _, size := range sizes {
		if size < 0 {
			return -1
		}
		if total > math.MaxInt64-size {
			total = math.MaxInt64
			continue
		}
		total += size
	}
	return total
}

// parseCredit reads a CREDIT's payload.
func parseCredit(payload []byte) (int64, error) {
	if len(payload) != 4 {
		return 0, faultf(FaultMalformed, "CREDIT has %d bytes, not 4", len(payload))
	}
	return int64(binary.BigEndian.Uint32(payload)), nil
}
