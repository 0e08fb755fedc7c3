package lm_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/lm"
)

// fixture is a line of testdata/canonical.jsonl, which DSPy wrote.
type fixture struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	JSON json.RawMessage `json:"json"`
}

func fixtures(tb testing.TB) []fixture {
	tb.Helper()
	f, err := os.Open("testdata/canonical.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var list []fixture
	for s := bufio.NewScanner(f); s.Scan(); {
		var x fixture
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			tb.Fatal(err)
		}
		list = append(list, x)
	}
	if len(list) < 30 {
		tb.Fatalf("only %d fixtures", len(list))
	}
	return list
}

// codec decodes a value of the fixture's kind and encodes it again.
func codec(tb testing.TB, kind string, data []byte) (value any, encoded []byte) {
	tb.Helper()
	var err error
	switch kind {
	case "request":
		var v *lm.Request
		if v, err = lm.ParseRequest(data); err == nil {
			value = v
			encoded, err = v.AppendJSON(nil)
		}
	case "response":
		var v *lm.Response
		if v, err = lm.ParseResponse(data); err == nil {
			value = v
			encoded, err = v.AppendJSON(nil)
		}
	case "event":
		var v lm.Event
		if v, err = lm.ParseEvent(data); err == nil {
			value = v
			encoded, err = v.AppendJSON(nil)
		}
	default:
		tb.Fatalf("kind %q", kind)
	}
	if err != nil {
		tb.Fatalf("%s: %v", data, err)
	}
	return value, encoded
}

// loose decodes any JSON, keeping numbers as they are written except that 1.0 is 1.
func loose(tb testing.TB, data []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("%v in %s", err, data)
	}
	return v
}

var sameNumber = cmp.Comparer(func(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, errX := a.Float64()
	y, errY := b.Float64()
	return errX == nil && errY == nil && x == y
})

func TestWhatDSPyWroteIsEncodedToTheSameJSON(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(f.Kind+"/"+f.Name, func(t *testing.T) {
			_, encoded := codec(t, f.Kind, f.JSON)
			if diff := cmp.Diff(loose(t, f.JSON), loose(t, encoded), sameNumber); diff != "" {
				t.Errorf("DSPy wrote -, Go wrote +:\n%s", diff)
			}
		})
	}
}

func TestDecodingWhatWasEncodedGivesTheSameValue(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(f.Kind+"/"+f.Name, func(t *testing.T) {
			first, encoded := codec(t, f.Kind, f.JSON)
			second, again := codec(t, f.Kind, encoded)
			if !reflect.DeepEqual(first, second) {
				t.Errorf("decoded %+v, then %+v", first, second)
			}
			if !bytes.Equal(encoded, again) {
				t.Errorf("encoded %s, then %s", encoded, again)
			}
		})
	}
}

func TestEncodingJSONGivesTheCanonicalForm(t *testing.T) {
	for _, f := range fixtures(t) {
		value, encoded := codec(t, f.Kind, f.JSON)
		viaStd, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(loose(t, encoded), loose(t, viaStd)); diff != "" {
			t.Errorf("%s/%s: %s", f.Kind, f.Name, diff)
		}
		back := reflect.New(reflect.Indirect(reflect.ValueOf(value)).Type())
		if err := json.Unmarshal(viaStd, back.Interface()); err != nil {
			t.Errorf("%s/%s: %v", f.Kind, f.Name, err)
		}
	}
}

func TestDSPyDecodesWhatGoEncoded(t *testing.T) {
	env, err := pyenv.Ensure(t.Context(), pyenv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	for _, f := range fixtures(t) {
		_, f.JSON = codec(t, f.Kind, f.JSON)
		line, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), env.Python, "testdata/canonical.py", "--check")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestMalformedCanonicalJSONIsRefused(t *testing.T) {
	const message = `{"role":"user","parts":[{"type":"text","text":"x"}]}`
	requests := map[string]string{
		"empty":              ``,
		"null":               `null`,
		"a list":             `[]`,
		"no model":           `{"messages":[` + message + `]}`,
		"no messages":        `{"model":"m","messages":[]}`,
		"a message no parts": `{"model":"m","messages":[{"role":"user","parts":[]}]}`,
		"unknown role":       `{"model":"m","messages":[{"role":"system","parts":[{"type":"text","text":"x"}]}]}`,
		"unknown part":       `{"model":"m","messages":[{"role":"user","parts":[{"type":"smell"}]}]}`,
		"data without value": `{"model":"m","messages":[{"role":"user","parts":[{"type":"data"}]}]}`,
		"unknown tool":       `{"model":"m","messages":[` + message + `],"tools":[{"type":"x","name":"n"}]}`,
		"unknown format":     `{"model":"m","messages":[` + message + `],"config":{"response_format":{"type":"xml"}}}`,
		"config no object":   `{"model":"m","messages":[` + message + `],"config":[]}`,
		"seed too large":     `{"model":"m","messages":[` + message + `],"config":{"seed":99999999999999999999}}`,
		"a fraction":         `{"model":"m","messages":[` + message + `],"config":{"max_tokens":1.5}}`,
		"text after it":      `{"model":"m","messages":[` + message + `]} x`,
		"truncated":          `{"model":"m","messages":[{"role":"us`,
		"trailing comma":     `{"model":"m","messages":[` + message + `],}`,
		"control character":  "{\"model\":\"m\x01\",\"messages\":[" + message + "]}",
		"broken escape":      `{"model":"\u12","messages":[` + message + `]}`,
		"leading zero":       `{"model":"m","messages":[` + message + `],"config":{"max_tokens":01}}`,
		"too deep":           `{"model":` + strings.Repeat("[", 100_000),
	}
	for name, in := range requests {
		t.Run(name, func(t *testing.T) {
			if req, err := lm.ParseRequest([]byte(in)); err == nil {
				t.Errorf("accepted as %+v", req)
			}
		})
	}
}

func TestWhatDSPyIgnoresIsIgnored(t *testing.T) {
	req, err := lm.ParseRequest([]byte(`{"later":{"a":[1,"}"]},"model":"m","config":null,"tools":null,
		"messages":[{"role":"user","parts":["bare",{"x":1,"text":"t","type":"text"}],"continuation":null}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []lm.Part{lm.Text("bare"), lm.Text("t")}
	if diff := cmp.Diff(want, req.Messages[0].Parts); diff != "" {
		t.Error(diff)
	}
}

func TestAValueThatIsNotJSONIsNotEncoded(t *testing.T) {
	req := &lm.Request{Model: "m", Messages: []lm.Message{lm.Assistant(lm.ToolCallPart("1", "f", json.RawMessage(`{"a`)))}}
	if out, err := req.AppendJSON([]byte("kept")); err == nil || string(out) != "kept" {
		t.Errorf("%s, %v", out, err)
	}
}
