package spec

import (
	"strings"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
)

// The modules that can be run, by the names that programs use.
const (
	// Predict asks the model once.
	Predict = "predict"
	// ChainOfThought lets the model reason before it answers.
	ChainOfThought = "chain_of_thought"
)

// Mode says on what a worker runs a module.
type Mode string

const (
	// Greenlet runs it on the worker's main thread, interleaved with other calls. It is
	// the cheap way, for modules that neither start threads nor block.
	Greenlet Mode = "greenlet"
	// Thread runs it on a thread of its own, for modules that start threads or may block.
	Thread Mode = "thread"
	// Process runs it in a worker of its own, for long jobs.
	Process Mode = "process"
)

// Module describes a DSPy module that programs can name. It is the one place that knows
// how a module is run and what it adds to a signature.
type Module struct {
	// Name is what programs and the command call it.
	Name string
	// Class is DSPy's name.
	Class string
	// Mode says on what a worker runs it.
	Mode Mode
	// Stateful is true when an instance remembers calls, so that each call builds its own.
	Stateful bool
	// Extra are the outputs that the module adds to those of the signature.
	Extra []Field
	// Reserved are field names that the module needs for itself.
	Reserved []Reserved
}

// Reserved is a field name that a module needs for itself.
type Reserved struct {
	Name string
	// Kind is the kind of field that cannot have the name; zero means either kind.
	Kind Kind
	// Reason completes the sentence "the name cannot be used: …".
	Reason string
}

// Modules returns a description of every module.
func Modules() []Module {
	return []Module{
		{Name: Predict, Class: "dspy.Predict", Mode: Greenlet},
		{
			Name: ChainOfThought, Class: "dspy.ChainOfThought", Mode: Greenlet,
			Extra: []Field{{Name: "reasoning", Kind: Output, Schema: Schema{Type: typeString}}},
			Reserved: []Reserved{{
				Name: "reasoning", Reason: "the module adds an output of that name",
			}},
		},
	}
}

// ModuleNamed returns the module of that name. The error has code invalid_program.
func ModuleNamed(name string) (Module, error) {
	modules := Modules()
	names := make([]string, len(modules))
	for i, m := range modules {
		if m.Name == name {
			return m, nil
		}
		names[i] = m.Name
	}
	if near, ok := nearest.Nearest(name, names); ok {
		return Module{}, status.New(status.InvalidProgram, opProgram,
			"there is no module %s; did you mean %q?", quoted(name), near)
	}
	return Module{}, status.New(status.InvalidProgram, opProgram,
		"there is no module %s; the modules are %s", quoted(name), strings.Join(names, ", "))
}
