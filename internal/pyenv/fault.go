package pyenv

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/status"
)

// fault is the kind of an installer's failure: what can be done about it differs.
type fault uint8

const (
	otherFault fault = iota
	networkFault
	absentFault
	cacheFault
	wheelFault
	hashFault
	diskFault
)

// signs are what pip and uv say, in lower case, looked for in this order: a network fault also
// makes pip say that it found no version.
func signs() []sign {
	return []sign{
		{diskFault, []string{"no space left", "disk quota exceeded"}},
		{hashFault, []string{"hash mismatch", "do not match the hashes"}},
		{cacheFault, []string{"network was disabled", "network connectivity is disabled", "was not found in the cache", "looking in links"}},
		{networkFault, []string{
			"error sending request", "failed to fetch", "dns error", "connection refused", "connection reset",
			"failed to establish a new connection", "name resolution", "name or service not known", "max retries exceeded",
			"network is unreachable", "no route to host", "timed out", "proxyerror", "cannot connect to proxy",
			"tls", "certificate", "sslerror", "failed to download", "http status",
		}},
		{absentFault, []string{"(from versions: none)"}},
		{wheelFault, []string{"no usable wheels", "no matching distribution", "is not a supported wheel", "no solution found"}},
	}
}

// sign is what an installer says when it fails in some way.
type sign struct {
	kind  fault
	texts []string
}

// classify reads an installer's last words.
func classify(err error) fault {
	if err == nil {
		return otherFault
	}
	var f *runError
	if !errors.As(err, &f) {
		if strings.Contains(err.Error(), "no space left") {
			return diskFault
		}
		return otherFault
	}
	said := strings.ToLower(strings.Join(f.Tail, "\n"))
	for _, sign := range signs() {
		for _, text := range sign.texts {
			if strings.Contains(said, text) {
				return sign.kind
			}
		}
	}
	return otherFault
}

// failed makes the error of a build's step. The installer's last lines are in its cause.
func (s *setup) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if known, ok := errors.AsType[*status.Error](err); ok {
		return known
	}
	const format = "%s: %s; %s"
	switch classify(err) {
	case networkFault:
		e := status.Wrap(status.Unavailable, op, err,
			"could not reach the package index (%s); run `dspex setup` once with network, or point pip or uv at an index that can be reached, or %s", reached(err), s.alternative())
		e.Retryable = true
		return e
	case absentFault:
		e := status.Wrap(status.Unavailable, op, err,
			"the package index cannot be reached or does not have what is needed (%s); run `dspex setup` once with network, or point pip or uv at an index that has it, or %s", lastOf(err), s.alternative())
		e.Retryable = true
		return e
	case cacheFault:
		return status.Wrap(status.Unavailable, op, err,
			"the Python environment is not set up and the network is not to be used; run `dspex setup` once with network")
	case wheelFault:
		return status.Wrap(status.Unavailable, op, err, format, what, lastOf(err),
			"there is no ready-made package for this Python and platform; name another Python with DSPEX_PYTHON, or "+s.alternative())
	case hashFault:
		return status.Wrap(status.Unavailable, op, err, format, what, "the package index served a file that is not the locked one",
			"look into the index that pip or uv is pointed at, and their caches")
	case diskFault:
		return status.Wrap(status.Unavailable, op, err, format, what, "no space is left",
			"make room in "+s.root+" or name another folder with Config.Python.Dir or `dspex setup --dir DIR`")
	default:
		return status.Wrap(status.Unavailable, op, err, format, what, lastOf(err), "see `dspex doctor`, or "+s.alternative())
	}
}

// alternative says how to do without what cannot be installed.
func (s *setup) alternative() string {
	if s.lockName == Local {
		return "use another model than the local one"
	}
	return "use an environment of your own with Config.Python.Path"
}

// maxQuote bounds what a message quotes of an installer's line, which may hold whole addresses.
const maxQuote = 160

// reached returns the line that says what could not be reached.
func reached(err error) string {
	var f *runError
	if !errors.As(err, &f) {
		return err.Error()
	}
	for _, line := range slices.Backward(f.Tail) {
		one := &runError{Path: f.Path, Err: f.Err, Tail: []string{line}}
		if classify(one) == networkFault {
			line = strings.TrimPrefix(strings.TrimSpace(line), "cause: ")
			return line[:min(len(line), maxQuote)]
		}
	}
	return f.lastLine()
}
