// Package spec holds programs and signatures as data: what a program is given and what it
// produces, as a JSON document under a content hash, and the codec that turns Go values
// into a program's inputs and its outputs into Go values.
//
// Everything that can be wrong with a program or with inputs is found here, in Go, before
// a worker is asked.
package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"

	"github.com/dspex/dspex/internal/status"
)

// Program is a program as data.
type Program struct {
	// Module is the name of the module that runs it, such as "predict".
	Module string
	// Signature is what it is given and what it produces.
	Signature Signature
	// Config holds the predictor's settings in DSPy's names, such as "temperature": a
	// JSON object, or nil.
	Config json.RawMessage
	// Demos are the demonstrations for the prompt: a JSON array, or nil.
	Demos json.RawMessage
	// Options are the module's own arguments: a JSON object, or nil.
	Options json.RawMessage
}

// JSON returns the program's canonical JSON: equal programs have equal text.
func (p Program) JSON() []byte {
	b := append([]byte(nil), `{"module":`...)
	b = appendString(b, p.Module)
	b = append(b, `,"signature":{`...)
	name := p.Signature.Name
	if name == "" {
		name = defaultName
	}
	b = append(b, `"name":`...)
	b = appendString(b, name)
	if p.Signature.Instructions != "" {
		b = append(b, `,"instructions":`...)
		b = appendString(b, p.Signature.Instructions)
	}
	b = append(b, `,"fields":[`...)
	for i := range p.Signature.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.Signature.Fields[i].append(b)
	}
	b = append(b, `]}`...)
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"config", p.Config}, {"demos", p.Demos}, {"options", p.Options}} {
		if part.text != nil {
			b = append(b, ',')
			b = appendString(b, part.name)
			b = append(b, ':')
			b = append(b, part.text...)
		}
	}
	return append(b, '}')
}

func (f *Field) append(b []byte) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, f.Name)
	b = append(b, `,"kind":`...)
	b = appendString(b, f.Kind.String())
	b = append(b, `,"schema":`...)
	b = f.Schema.append(b)
	if f.Desc != "" {
		b = append(b, `,"desc":`...)
		b = appendString(b, f.Desc)
	}
	if f.Default != nil {
		b = append(b, `,"default":`...)
		b = append(b, f.Default...)
	}
	return append(b, '}')
}

// Hash returns the SHA-256 of the program's canonical JSON in lowercase hex. It is
// computed at each call: whoever owns a program computes it once.
func (p Program) Hash() string { return hashOf(p.JSON()) }

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Declaration is what a program is made of.
type Declaration struct {
	// In and Out are the Go types of the inputs and outputs: structs, or maps from string
	// to any, whose fields Signature gives.
	In, Out reflect.Type
	// Signature gives the fields of the sides that are maps. When a side is a struct, its
	// fields must agree with the Signature's. Nil means that both sides are structs.
	Signature *Signature
	// Name is the signature's name in Python. Empty means the Signature's own name, then
	// the name of the type Out, then DSPy's own, "StringSignature".
	Name string
	// Instructions tell the model what to do. Empty means the Signature's own, then
	// DSPy's: "Given the fields …, produce the fields …".
	Instructions string
	// Config holds the predictor's settings in DSPy's names.
	Config map[string]any
	// Demos are demonstrations, each a map or a struct with values of inputs and outputs.
	Demos []any
	// Options are the module's own arguments.
	Options map[string]any
}

// Compiled is a program that is ready to be sent, with the codec of its values. It is
// immutable and safe for concurrent use.
type Compiled struct {
	// Program is the program as data.
	Program Program
	// Hash is the program's content hash.
	Hash string
	// JSON is the program's canonical JSON. It is not to be changed.
	JSON []byte
	// Module describes the module that runs the program.
	Module Module

	in, out side
}

// Build checks a declaration and compiles it. The error has code invalid_program.
func Build(module string, d Declaration) (*Compiled, error) {
	m, err := ModuleNamed(module)
	if err != nil {
		return nil, err
	}
	c := &Compiled{Module: m}
	if f := c.build(&d); f != nil {
		return nil, status.New(status.InvalidProgram, opProgram, "%v", f)
	}
	return c, nil
}

func (c *Compiled) build(d *Declaration) error {
	s := Signature{Name: d.Name, Instructions: d.Instructions}
	var declared []Field
	if d.Signature != nil {
		declared = d.Signature.Fields
		if s.Name == "" {
			s.Name = d.Signature.Name
		}
		if s.Instructions == "" {
			s.Instructions = d.Signature.Instructions
		}
	}
	var f *fault
	if c.in, f = newSide(d.In, Input, d.Signature); f != nil {
		return f
	}
	if c.out, f = newSide(d.Out, Output, d.Signature); f != nil {
		return f
	}
	s.Fields = declared
	if d.Signature == nil {
		s.Fields = append(append(s.Fields, c.in.fields...), c.out.fields...)
	}
	if s.Name == "" && c.out.members != nil {
		s.Name = c.out.name
	}
	if err := s.check(c.Module); err != nil {
		return err
	}
	c.Program = Program{Module: c.Module.Name, Signature: s}
	if err := c.extras(d); err != nil {
		return err
	}
	c.JSON = c.Program.JSON()
	c.Hash = hashOf(c.JSON)
	return nil
}

func (c *Compiled) extras(d *Declaration) error {
	for _, part := range []struct {
		name   string
		values map[string]any
		text   *json.RawMessage
	}{{"config", d.Config, &c.Program.Config}, {"options", d.Options, &c.Program.Options}} {
		if part.values == nil {
			continue
		}
		e := encoder{inline: true}
		if f := e.anything(reflect.ValueOf(part.values)); f != nil {
			return f.in(part.name)
		}
		*part.text = e.buf
	}
	if d.Demos == nil {
		return nil
	}
	demos := make([][]byte, len(d.Demos))
	for i, values := range d.Demos {
		text, f := c.demo(values)
		if f != nil {
			return f.at(i).in("demos")
		}
		demos[i] = text
	}
	c.Program.Demos = append(append(json.RawMessage{'['}, bytes.Join(demos, []byte{','})...), ']')
	return nil
}
