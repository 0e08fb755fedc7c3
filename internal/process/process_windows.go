package process

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
)

func unsupported() error {
	return status.New(status.Unsupported, "start", "Python workers need a Unix system; use the mock backend on Windows")
}

// Exec is unsupported on Windows.
func Exec(context.Context, Command) (*Process, error) { return nil, unsupported() }

// ProveLifeline finds no lifeline on Windows.
func ProveLifeline(context.Context, Python) LifelineStatus {
	return LifelineStatus{Reason: "the platform is windows"}
}

// Stacks is unsupported on Windows.
func (p *Process) Stacks(context.Context) (string, error) { return "", unsupported() }

// Server is unsupported on Windows.
type Server struct {
	opt    ServerOptions
	life   lifecycle.Life
	mu     sync.Mutex
	mode   Mode
	proof  LifelineStatus
	forker *forker
}

// forker does not exist on Windows.
type forker struct{ proc *Process }

func newServer(o ServerOptions) *Server { return &Server{opt: o} }

func (s *Server) start(context.Context) error { return unsupported() }

func (s *Server) stop(context.Context) error { return nil }

func (s *Server) spawn(context.Context, WorkerOptions) (*Process, error) { return nil, unsupported() }

func (s *Server) fork(context.Context, WorkerOptions) (*Process, error) { return nil, unsupported() }

type lifeline struct{}

func (*lifeline) cut() {}

func (*lifeline) release() {}

func readNow(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func signalName(sig syscall.Signal) string { return fmt.Sprintf("signal %d", int(sig)) }
