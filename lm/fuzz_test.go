package lm_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/dspex/dspex/lm"
)

// FuzzParseRequest checks that what is accepted is JSON by the standard library's
// judgement too, and survives being encoded and decoded again.
func FuzzParseRequest(f *testing.F) {
	for _, x := range fixtures(f) {
		if x.Kind == "request" {
			f.Add([]byte(x.JSON))
		}
	}
	f.Add([]byte(`{"model":"\ud83d\ude00\ud800\u0000","messages":[{"role":"user","parts":["é\/\b"]}],"x":-0.5e+3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := lm.ParseRequest(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q, which is not JSON", data)
		}
		encoded, err := req.AppendJSON(nil)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if !json.Valid(encoded) {
			t.Fatalf("encoded %q", encoded)
		}
		again, err := lm.ParseRequest(encoded)
		if err != nil {
			t.Fatalf("%q: %v", encoded, err)
		}
		twice, err := again.AppendJSON(nil)
		if err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("encoded %q, then %q (%v)", encoded, twice, err)
		}
	})
}

// FuzzString checks the reading and writing of strings against the standard library.
func FuzzString(f *testing.F) {
	f.Add([]byte(`"a\u00e9\ud83d\ude00\ud800x\\\"\/\b\f\n\r\t"`))
	f.Add([]byte("\"\xff\xfe \xe2\x80\xa8\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.ContainsAny(data, "{}[]") || strings.TrimSpace(string(data)) == "" {
			return // Only values that stand alone.
		}
		var std string
		stdErr := json.Unmarshal(data, &std)
		body := append(append([]byte(`{"type":"text","text":`), data...), '}')
		var p lm.Part
		err := p.UnmarshalJSON(body)
		if stdErr != nil || err != nil {
			if stdErr == nil {
				t.Fatalf("%q: %v, though the standard library reads %q", data, err, std)
			}
			return
		}
		if p.Text != std {
			t.Fatalf("%q: read %q, the standard library %q", data, p.Text, std)
		}
		out, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back struct{ Text string }
		if err := json.Unmarshal(out, &back); err != nil || back.Text != std {
			t.Fatalf("wrote %q for %q (%v)", out, std, err)
		}
	})
}

// call is a request and a response of the size that a small predictor makes.
func call(tb testing.TB) (request []byte, response *lm.Response) {
	tb.Helper()
	req := &lm.Request{
		Model: "go/default", System: strings.Repeat("Your input fields are:\n1. `question` (str):\n", 20),
		Messages: []lm.Message{
			lm.User(lm.Text("[[ ## question ## ]]\nQ?")), lm.Assistant(lm.Text("[[ ## answer ## ]]\n1")),
			lm.User(lm.Text("[[ ## question ## ]]\nWhat is the capital of France?")),
		},
		Config: lm.Config{Temperature: new(0.0), MaxTokens: new(500)},
	}
	data, err := req.AppendJSON(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return data, &lm.Response{
		ID: "r", Model: "m", FinishReason: lm.FinishStop, Usage: lm.Usage{InputTokens: 100, OutputTokens: 10, TotalTokens: 110},
		Message: lm.Assistant(lm.Text("[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n")),
	}
}

func TestTheHotPathAllocatesLittle(t *testing.T) {
	request, response := call(t)
	decode := testing.AllocsPerRun(100, func() {
		if _, err := lm.ParseRequest(request); err != nil {
			t.Fatal(err)
		}
	})
	buf := make([]byte, 0, 4096)
	encode := testing.AllocsPerRun(100, func() {
		if _, err := response.AppendJSON(buf); err != nil {
			t.Fatal(err)
		}
	})
	// Measured: 19 and 1; the margin is for other compilers.
	if decode > 25 || encode > 3 {
		t.Errorf("decoding a request allocates %v times, encoding a response %v times", decode, encode)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	request, _ := call(b)
	b.SetBytes(int64(len(request)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := lm.ParseRequest(request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	_, response := call(b)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := response.AppendJSON(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParsedValuesDoNotAliasTheInput(t *testing.T) {
	for _, f := range fixtures(t) {
		data := bytes.Clone(f.JSON)
		first, _ := codec(t, f.Kind, data)
		want, _ := codec(t, f.Kind, f.JSON)
		for i := range data {
			data[i] = 'x'
		}
		if !reflect.DeepEqual(first, want) {
			t.Errorf("%s/%s changed with the bytes it was read from", f.Kind, f.Name)
		}
	}
}
