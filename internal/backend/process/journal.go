package process

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
)

// journalLimit bounds what the journal of one call keeps, in bytes of answers: a hundred
// long completions. A call that needs more cannot be run again, and loses nothing else.
const journalLimit = 4 << 20

// journal remembers what one call has asked of Go and what it was answered, so that the
// call can be run again on another worker, from the same answers: nothing is asked of a
// model twice. A request that was being answered when the worker died goes on being
// answered, for whoever asks next.
type journal struct {
	// ctx is the call's own: it outlives the worker.
	ctx context.Context
	// group owns the goroutines that answer.
	group *lifecycle.Group
	// call names the call in the log.
	call   string
	logger *slog.Logger

	mu      sync.Mutex // guards all below
	entries []*entry
	size    int  // bytes of the answers kept
	spoiled bool // the call cannot be run again: its journal is not whole
	runs    int  // how many runs there were before the present one
}

// attempt is one run of a call. What its worker had sent before it died may still arrive
// while the next run is under way; it must not be taken for that run's.
type attempt struct {
	j      *journal
	number int
}

// entry is one request and its answer.
type entry struct {
	request [sha256.Size]byte // of method and body
	used    bool              // by the present run; guarded by the journal's mu
	done    chan struct{}     // closed once answer and err are set
	answer  []byte
	err     error
	cancel  context.CancelFunc
}

// errDiverged is what a run gets that asks for something else than the run before it.
func errDiverged() error {
	return status.New(status.WorkerLost, "run",
		"the call's worker died, and run again the program asked for something else than before")
}

// errUnanswered is what a request gets whose answer ended its goroutine.
func errUnanswered() error {
	return status.New(status.Internal, "run", "the language model ended its goroutine instead of answering")
}

// ask answers a request: from the journal if the run before asked the same, else by
// answer, which is called once, with a context that ends with the call or when the worker
// gives the request up.
func (a attempt) ask(ctx context.Context, method string, body []byte, answer func(context.Context) ([]byte, error)) ([]byte, error) {
	e, err := a.j.entry(a.number, method, body, answer)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.done:
		return e.answer, e.err
	case <-ctx.Done():
		if !lost(ctx) {
			e.cancel()
		}
		return nil, context.Cause(ctx)
	}
}

// entry finds the entry for a request of a run, or makes one and has it answered.
func (j *journal) entry(run int, method string, body []byte, answer func(context.Context) ([]byte, error)) (*entry, error) {
	sum := digest(method, body)
	j.mu.Lock()
	defer j.mu.Unlock()
	if run != j.runs {
		return nil, status.New(status.Canceled, "run", "the worker that asks was given up")
	}
	if j.ctx.Err() != nil {
		return nil, status.FromContext(j.ctx, "run", "the call has ended")
	}
	left := 0
	for _, e := range j.entries {
		if e.used {
			continue
		}
		if e.request == sum {
			e.used = true
			j.logger.DebugContext(j.ctx, "a request is answered from the journal", "call", j.call, "method", method)
			return e, nil
		}
		left++
	}
	if left > 0 {
		j.spoiled = true
		return nil, errDiverged()
	}
	ctx, cancel := context.WithCancel(j.ctx)
	e := &entry{request: sum, used: true, done: make(chan struct{}), cancel: cancel}
	started := j.group.Go(func(context.Context) {
		defer cancel()
		defer close(e.done)
		e.err = errUnanswered() // unless answer returns
		e.answer, e.err = answer(ctx)
		j.keep(len(e.answer))
	})
	if !started {
		cancel()
		return nil, status.New(status.Closed, "run", "the Runtime is closed")
	}
	j.entries = append(j.entries, e)
	return e, nil
}

// keep counts an answer. Beyond the limit the journal is of no use, but the run that is
// under way still needs its answers.
func (j *journal) keep(size int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.size += size
	if j.size > journalLimit {
		j.spoil()
	}
}

// spoil gives up running the call again. A run that is answered from the journal still
// needs it. The caller holds mu.
func (j *journal) spoil() {
	j.spoiled = true
	if j.runs == 0 {
		j.entries = nil
	}
}

// pass notes that the run asks for something that is not kept.
func (a attempt) pass() {
	a.j.mu.Lock()
	defer a.j.mu.Unlock()
	a.j.spoil()
}

// rewind prepares another run, or reports that there cannot be one: a second time, or
// without a whole journal.
func (j *journal) rewind() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spoiled || j.runs > 0 {
		return false
	}
	j.runs++
	for _, e := range j.entries {
		e.used = false
	}
	return true
}

func digest(method string, body []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(method))
	h.Write([]byte{0})
	h.Write(body)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// lost reports whether ctx, that of a request, ended because its worker was lost.
func lost(ctx context.Context) bool {
	return status.CodeOf(context.Cause(ctx)) == status.WorkerLost
}
