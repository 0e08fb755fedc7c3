package dspex

import "github.com/dspex/dspex/internal/status"

// Error is the only error type that dspex returns: its Code says what kind of failure
// it is, its text is one line that says what happened, to what, and what to do.
//
// Its fields are
//
//	Code       Code           // the kind of failure
//	Op         string         // what was being done, such as "run"
//	Message    string         // what happened, and what to do
//	Worker     string         // the worker concerned, if any
//	Remote     bool           // whether a worker reported it
//	Retryable  bool           // whether the same call may succeed later
//	RetryAfter time.Duration  // how long to wait before that; 0 means no hint
//	Python     *PythonError   // the Python exception, if there was one
//	Usage      lm.Usage       // what the failed call cost
//	Calls      []lm.Call      // every model call that it made
//	Completion string         // the model's last answer, when it was the cause
//	Err        error          // the cause
//
// [errors.Is] matches [context.Canceled], [context.DeadlineExceeded] and [ErrClosed];
// [errors.As] also reaches *lm.Error, for [CodeLM], and *[PythonError], for whatever
// passed through Python as an exception: a model's failure does too.
type Error = status.Error

// PythonError describes an exception that was raised in a worker. Its fields are
//
//	Type      string    // qualified name of the class, such as "builtins.ValueError"
//	MRO       []string  // qualified names of its base classes, nearest first
//	Message   string    // its text
//	Traceback string    // Python's own, several lines
//	Stderr    []string  // the last lines that the worker printed
type PythonError = status.PythonError

// Code says what kind of failure an [Error] is. The set is closed.
type Code = status.Code

// The codes of an [Error].
const (
	// CodeInvalidArgument means that the caller gave something that cannot be used.
	CodeInvalidArgument = status.InvalidArgument
	// CodeInvalidProgram means that a program cannot be built from its declaration.
	CodeInvalidProgram = status.InvalidProgram
	// CodeParseFailed means that the model's answer could not be read as the outputs.
	CodeParseFailed = status.ParseFailed
	// CodeInvalidOutput means that the model's answer was read but breaks a constraint.
	CodeInvalidOutput = status.InvalidOutput
	// CodeLM means that a language model call failed.
	CodeLM = status.LM
	// CodeBudgetExceeded means that a budget was used up.
	CodeBudgetExceeded = status.BudgetExceeded
	// CodeTool means that a tool aborted the call.
	CodeTool = status.Tool
	// CodePython means that Python code failed.
	CodePython = status.Python
	// CodeOverloaded means that the queue is full; try again after Error.RetryAfter.
	CodeOverloaded = status.Overloaded
	// CodeDeadlineExceeded means that the caller's deadline passed.
	CodeDeadlineExceeded = status.DeadlineExceeded
	// CodeCanceled means that the caller canceled.
	CodeCanceled = status.Canceled
	// CodeWorkerLost means that the worker died while it ran the call.
	CodeWorkerLost = status.WorkerLost
	// CodeSessionLost means that a hard session lost the worker that held its state.
	CodeSessionLost = status.SessionLost
	// CodeUnavailable means that the system cannot serve now; the message says why.
	CodeUnavailable = status.Unavailable
	// CodeClosed means that the Runtime is closed.
	CodeClosed = status.Closed
	// CodeUnsupported means that the platform or a component cannot do this.
	CodeUnsupported = status.Unsupported
	// CodeInternal means a defect in dspex.
	CodeInternal = status.Internal
)

// ErrClosed matches, with [errors.Is], every [Error] whose code is [CodeClosed].
var ErrClosed = status.ErrClosed

// CodeOf returns the code of err: that of the first *[Error] in its tree,
// [CodeInternal] for an error that is not of dspex, 0 for nil.
func CodeOf(err error) Code { return status.CodeOf(err) }
