// Package lm is the language-model side of dspex: the canonical request,
// response and stream types of DSPy's LM layer, the [Model] interface that every
// provider and every middleware satisfies, and the one error type they return.
//
// The types encode to and decode from the JSON that DSPy itself writes, without
// loss: what DSPy leaves opaque (schemas, tool input, extensions, provider data)
// is kept as the bytes it came in. The package needs the standard library only;
// providers live in its subpackages.
package lm
