package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// goldenFile is testdata/golden.json, which says itself what it means. The Python codec is held
// to the same file.
type goldenFile struct {
	About    string         `json:"about"`
	MaxFrame int            `json:"max_frame"`
	Vectors  []goldenVector `json:"vectors"`
}

type goldenVector struct {
	Name   string        `json:"name"`
	Hex    []string      `json:"hex"`
	Frames []goldenFrame `json:"frames"`
	Error  Fault         `json:"error,omitempty"`
}

type goldenFrame struct {
	Type      string        `json:"type"`
	Flags     uint8         `json:"flags"`
	Stream    uint64        `json:"stream"`
	Call      *goldenCall   `json:"call,omitempty"`
	Result    *goldenResult `json:"result,omitempty"`
	Credit    *int64        `json:"credit,omitempty"`
	Text      *string       `json:"text,omitempty"`
	Payload   *string       `json:"payload,omitempty"`
	Oversized *uint32       `json:"oversized,omitempty"`
	Malformed bool          `json:"malformed,omitempty"`
}

type goldenCall struct {
	Method string  `json:"method"`
	Parent uint64  `json:"parent"`
	Sizes  []int64 `json:"sizes"`
	Body   string  `json:"body"`
}

type goldenResult struct {
	Sizes []int64 `json:"sizes"`
	Body  string  `json:"body"`
}

func golden(t testing.TB) goldenFile {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var file goldenFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file
}

func (v goldenVector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(v.Hex, ""), " ", ""))
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return b
}

// payload builds the payload that the frame means.
func (f goldenFrame) payload(t testing.TB) []byte {
	t.Helper()
	switch {
	case f.Call != nil:
		return append(AppendCallHead(nil, f.Call.Method, f.Call.Parent, f.Call.Sizes), f.Call.Body...)
	case f.Result != nil:
		return append(AppendResultHead(nil, f.Result.Sizes), f.Result.Body...)
	case f.Credit != nil:
		return creditPayload(*f.Credit)
	case f.Text != nil:
		return []byte(*f.Text)
	case f.Payload != nil:
		b, err := hex.DecodeString(*f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Fatal("the frame has no content")
	return nil
}

// meaning reads a payload the way the expected frame is written.
func meaning(h Header, payload []byte, want goldenFrame) goldenFrame {
	got := goldenFrame{Type: h.Type.String(), Flags: h.Flags, Stream: h.Stream}
	var err error
	switch h.Type {
	case TypeCall:
		var head CallHead
		var body []byte
		if head, body, err = ParseCall(payload, h.Flags); err == nil {
			got.Call = &goldenCall{Method: string(head.Method), Parent: head.Parent, Sizes: append([]int64{}, head.Sizes...), Body: string(body)}
		}
	case TypeResult:
		var sizes []int64
		var body []byte
		if sizes, body, err = ParseResult(payload, h.Flags); err == nil {
			got.Result = &goldenResult{Sizes: append([]int64{}, sizes...), Body: string(body)}
		}
	case TypeCredit:
		var n int64
		if n, err = parseCredit(payload); err == nil {
			got.Credit = &n
		}
	default:
		if want.Text != nil {
			text := string(payload)
			got.Text = &text
		} else {
			text := hex.EncodeToString(payload)
			got.Payload = &text
		}
	}
	var fault *ProtocolError
	if errors.As(err, &fault) && fault.Fault == FaultMalformed {
		text := hex.EncodeToString(payload)
		got.Payload, got.Malformed = &text, true
	}
	return got
}

func TestTheDecoderAgreesWithTheGoldenVectors(t *testing.T) {
	file := golden(t)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"at once":       bytes.NewReader(v.bytes(t)),
				"byte by byte":  iotest.OneByteReader(bytes.NewReader(v.bytes(t))),
				"data with EOF": iotest.DataErrReader(bytes.NewReader(v.bytes(t))),
			} {
				d := NewDecoder(r, file.MaxFrame)
				got := []goldenFrame{}
				var err error
				for {
					var h Header
					var oversized bool
					if h, oversized, err = d.Next(); err != nil {
						break
					}
					if oversized {
						got = append(got, goldenFrame{Type: h.Type.String(), Flags: h.Flags, Stream: h.Stream, Oversized: &h.Length})
						continue
					}
					var payload []byte
					if payload, err = d.Payload(); err != nil {
						break
					}
					var want goldenFrame
					if len(got) < len(v.Frames) {
						want = v.Frames[len(got)]
					}
					got = append(got, meaning(h, payload, want))
				}
				if diff := cmp.Diff(v.Frames, got); diff != "" {
					t.Errorf("read %s (-want +got):\n%s", name, diff)
				}
				if fault, ok := errors.AsType[*ProtocolError](err); ok {
					if fault.Fault != v.Error {
						t.Errorf("read %s, the fault is %q, not %q", name, fault.Fault, v.Error)
					}
				} else if v.Error != "" || !errors.Is(err, io.EOF) {
					t.Errorf("read %s, it ended with %v, not %q", name, err, v.Error)
				}
			}
		})
	}
}

func TestTheEncoderAgreesWithTheGoldenVectors(t *testing.T) {
	for _, v := range golden(t).Vectors {
		if v.Error != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			var got []byte
			for _, f := range v.Frames {
				if f.Oversized != nil {
					return // its payload has no meaning
				}
				var typ Type
				for typ = TypeHello; typ.String() != f.Type && typ < TypeLog; typ++ {
				}
				payload := f.payload(t)
				got = AppendHeader(got, Header{Type: typ, Flags: f.Flags, Length: uint32(len(payload)), Stream: f.Stream})
				got = append(got, payload...)
			}
			if want := v.bytes(t); !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
		})
	}
}
