// Package dspex runs DSPy programs, the real Python ones, from Go.
//
// A program is declared with Go types and executed on a supervised pool of Python
// workers that ship inside this module. Every language model request that DSPy makes
// comes back to the Go process and is served by an [lm.Model], so keys, limits and
// costs stay in one place.
//
//	rt, err := dspex.Open(ctx, dspex.Config{LM: model})
//	if err != nil {
//		return err
//	}
//	defer rt.Close(ctx)
//
//	qa := dspex.ChainOfThought[Question, Answer]("Answer trivia questions briefly.")
//	pred, err := qa.Run(ctx, rt, Question{"Capital of France?"})
//
// Programs are immutable values that belong to no Runtime; package-level variables are
// safe. A Runtime and everything reached from it is safe for concurrent use. Every
// error is an *[Error].
package dspex
