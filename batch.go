package dspex

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
)

// defaultConcurrency keeps a few workers busy while most calls wait for their model,
// and stays below what most providers allow.
const defaultConcurrency = 32

// Result is the outcome of one call of a batch.
type Result[Out any] struct {
	// Index is the position of the call's input in the slice given to Batch.
	Index int
	// Prediction is non-nil if and only if Err is nil.
	Prediction *Prediction[Out]
	// Err is an *[Error].
	Err error
}

// Batch runs the program on every input, several at once, and yields the results in
// the order in which they are ready. One failure does not end the batch unless
// [StopOnError] is given.
//
// Every input has its result, also when ctx ends: the calls that it ended fail with
// [CodeCanceled] or [CodeDeadlineExceeded]. Breaking off the loop cancels the calls in
// flight and waits for them. Ranging again runs again.
func (p *Program[In, Out]) Batch(ctx context.Context, r Runner, ins []In, opts ...BatchOption) iter.Seq[Result[Out]] {
	var options batchOptions
	for _, o := range opts {
		o.applyBatch(&options)
	}
	if options.concurrency <= 0 {
		options.concurrency = defaultConcurrency
	}
	return func(yield func(Result[Out]) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var (
			next    atomic.Int64
			stopped atomic.Bool
			running sync.WaitGroup
			results = make(chan Result[Out])
		)
		for range min(options.concurrency, len(ins)) {
			running.Go(func() {
				for !stopped.Load() {
					i := int(next.Add(1)) - 1
					if i >= len(ins) {
						return
					}
					pred, err := p.Run(ctx, r, ins[i], options.call...)
					if err != nil && options.stopOnError {
						stopped.Store(true)
						cancel()
					}
					results <- Result[Out]{Index: i, Prediction: pred, Err: err}
				}
			})
		}
		go func() {
			running.Wait()
			close(results)
		}()
		defer func() {
			stopped.Store(true)
			cancel()
			for range results { // What is left is dropped; the loop ends when all have returned.
			}
		}()
		for result := range results {
			if !yield(result) {
				return
			}
		}
	}
}
