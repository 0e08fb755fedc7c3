package process

import (
	"errors"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/pool"
	"github.com/dspex/dspex/internal/status"
)

// place says which worker a job is for; see [backend.Call]. The zero value is any.
type place struct {
	prefer string
	pin    bool
	chosen func(backend.Worker)
}

// options narrows the pool's choice. A job that is not pinned passes over the workers
// that have died under it.
func (p place) options(tried []string) pool.AcquireOptions {
	return pool.AcquireOptions{Prefer: p.prefer, Pin: p.pin && p.prefer != "", Not: tried}
}

// unleased returns the error of a job that got no lease. One that is pinned to a worker
// which serves no more has not been seen by it.
func (p place) unleased(err error) error {
	if p.pin && p.prefer != "" && status.CodeOf(err) == status.WorkerLost {
		return unseenByPinned(err, p.prefer)
	}
	return err
}

func (p place) tell(w backend.Worker) {
	if p.chosen != nil {
		p.chosen(w)
	}
}

// unseenByPinned makes the error of a pinned job whose worker is going or gone and has
// not seen it.
func unseenByPinned(cause error, id string) error {
	err := status.Wrap(status.WorkerLost, "run", errors.Join(backend.ErrUnseen, cause),
		"worker %s, which the call was pinned to, does not serve any more: %v", id, cause)
	err.Worker, err.Retryable = id, true
	return err
}
