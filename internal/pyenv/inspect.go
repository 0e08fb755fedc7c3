package pyenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dspex/dspex/internal/status"
)

// State is how a fact stands.
type State string

// The states.
const (
	// OK means that nothing need be done.
	OK State = "ok"
	// Missing means that it is not there yet; `dspex setup` makes it.
	Missing State = "missing"
	// Broken means that it is there and cannot be used.
	Broken State = "broken"
)

// Fact is one thing that was looked at.
type Fact struct {
	// Name is what was looked at: "python", "environment", "dspy", "sources", "installer".
	Name string `json:"name"`
	// State is how it stands.
	State State `json:"state"`
	// Detail is what was found, in one line.
	Detail string `json:"detail"`
	// Remedy is what to do, in one line; empty when the state is OK.
	Remedy string `json:"remedy,omitempty"`
}

// Report is what Inspect found.
type Report struct {
	// Facts are in the order in which they depend on each other.
	Facts []Fact `json:"facts"`
	// Env is the environment, if it is ready to use.
	Env *Env `json:"env,omitempty"`
}

// OK reports whether every fact is.
func (r Report) OK() bool {
	for _, f := range r.Facts {
		if f.State != OK {
			return false
		}
	}
	return true
}

func (r *Report) addf(name string, state State, remedy, format string, args ...any) {
	r.Facts = append(r.Facts, Fact{Name: name, State: state, Detail: fmt.Sprintf(format, args...), Remedy: remedy})
}

const runSetup = "run `dspex setup`"

// Inspect looks at everything that Ensure needs and reports it fact by fact. It builds, writes
// and fetches nothing.
func Inspect(ctx context.Context, o Options) Report {
	var r Report
	s, err := newSetup(o)
	if err != nil {
		r.fail("environment", err)
		return r
	}
	if o.Path != "" {
		s.inspectOwn(ctx, &r)
		return r
	}
	py, err := s.findPython(ctx)
	if err != nil {
		r.fail("python", err)
		return r
	}
	r.addf("python", OK, "", "Python %s at %s", py.Version(), py.Path)
	m, err := s.verifyEnv(py)
	switch {
	case err == nil:
		r.addf("environment", OK, "", "%s, %d packages", s.envDir(py), len(m.Packages))
		if version := m.Packages["dspy"]; version != "" {
			r.addf("dspy", OK, "", "DSPy %s, orjson %s, greenlet %s", version, m.Packages["orjson"], m.Packages["greenlet"])
		}
	case errors.Is(err, errMissing):
		r.addf("environment", Missing, runSetup, "not built yet: %s", s.envDir(py))
		s.inspectTools(ctx, py, &r)
	default:
		r.addf("environment", Broken, runSetup, "%s: %v", s.envDir(py), err)
		s.inspectTools(ctx, py, &r)
	}
	s.inspectSource(py, &r)
	if r.OK() {
		r.Env, _ = s.inspectBuilt(py)
	}
	return r
}

func (s *setup) inspectSource(py *interpreter, r *Report) {
	dir, err := s.verifySource(py)
	if err != nil {
		r.addf("sources", Missing, runSetup, "%v", err)
		return
	}
	r.addf("sources", OK, "", "%s", dir)
}

// inspectTools says what a build would use.
func (s *setup) inspectTools(ctx context.Context, py *interpreter, r *Report) {
	if uv := s.uvOnPath(ctx); uv != "" {
		r.addf("installer", OK, "", "uv at %s", uv)
		return
	}
	t, err := s.findTools(ctx, py)
	if err != nil {
		r.fail("installer", err)
		return
	}
	others := append(s.environ.lookPaths("pip3"), s.environ.lookPaths("pip")...)
	switch {
	case !t.Venv:
		r.fail("installer", s.noInstaller(py, "it has no module venv and uv was not found"))
	case t.Pip:
		r.addf("installer", OK, "", "uv, to be fetched with pip of %s", py.Path)
	case t.Ensurepip:
		r.addf("installer", OK, "", "uv, to be fetched with pip from ensurepip of %s", py.Path)
	case len(others) > 0:
		r.addf("installer", OK, "", "uv, to be fetched with %s", others[0])
	default:
		r.fail("installer", s.noInstaller(py, "neither uv nor pip was found"))
	}
}

func (s *setup) inspectOwn(ctx context.Context, r *Report) {
	path, own, err := s.checkOwn(ctx)
	if err != nil {
		r.fail("environment", err)
		return
	}
	r.addf("python", OK, "", "Python %s at %s (your own environment)", own.Version(), path)
	r.addf("dspy", OK, "", "DSPy %s, orjson %s, greenlet %s", own.Packages["dspy"], own.Packages["orjson"], own.Packages["greenlet"])
	s.inspectSource(&own.interpreter, r)
	if r.OK() {
		source, err := s.verifySource(&own.interpreter)
		if err == nil {
			r.Env = &Env{
				Python: path, Source: source, Root: s.root, Interpreter: own.Path, Version: own.Version(),
				Dspy: own.Packages["dspy"], Packages: own.Packages, Own: true,
			}
		}
	}
}

// fail adds an error as a fact. Errors of this package end in what to do, after a semicolon.
func (r *Report) fail(name string, err error) {
	text := err.Error()
	if e, ok := errors.AsType[*status.Error](err); ok {
		text = e.Message
	}
	state := Broken
	if errors.Is(err, os.ErrNotExist) {
		state = Missing
	}
	detail, remedy := text, runSetup
	if i := strings.LastIndex(text, "; "); i >= 0 {
		detail, remedy = text[:i], text[i+2:]
	}
	r.addf(name, state, remedy, "%s", detail)
}
