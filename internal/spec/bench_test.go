package spec_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/spec"
)

type benchIn struct {
	Context  []string `json:"context"`
	Question string   `json:"question" dspy:"a trivia question"`
}

type benchOut struct {
	Answer string  `json:"answer"`
	Score  float64 `json:"score"`
}

func BenchmarkEncode(b *testing.B) {
	c := echo(b, reflect.TypeFor[benchIn](), reflect.TypeFor[benchOut]())
	in := benchIn{[]string{strings.Repeat("Paris is the capital of France. ", 20), "second"}, "What is the capital of France?"}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Encode(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	c := echo(b, reflect.TypeFor[benchIn](), reflect.TypeFor[benchOut]())
	body := json.RawMessage(`{"answer":"Paris, of course, what else could it be?","score":0.9}`)
	b.ReportAllocs()
	for b.Loop() {
		var out benchOut
		if _, err := c.Decode(body, nil, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		echo(b, reflect.TypeFor[benchIn](), reflect.TypeFor[benchOut]())
	}
}

func BenchmarkParseLongestUnion(b *testing.B) {
	var text strings.Builder
	for i := 0; text.Len() < 60<<10; i++ {
		fmt.Fprintf(&text, "%sLiteral[%d]", map[bool]string{true: "a: ", false: " | "}[i == 0], i)
	}
	text.WriteString(" -> b")
	for b.Loop() {
		if _, err := spec.ParseSignature(text.String()); err != nil {
			b.Fatal(err)
		}
	}
}
