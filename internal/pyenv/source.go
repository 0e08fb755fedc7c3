package pyenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/python"
)

// sourceMarker is written last into a folder of sources: where it is, all of it is.
const sourceMarker = "complete"

// sourceDir returns where the sources for py's bytecode belong. The folder's name tells their
// content, so a new dspex never changes what a running one imports.
func (s *setup) sourceDir(py *interpreter, sources map[string][]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "1\n%s\n", py.Bytecode)
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(h, "%s %d\n", name, len(sources[name]))
		h.Write(sources[name])
	}
	return filepath.Join(s.root, "src", hex.EncodeToString(h.Sum(nil))[:16])
}

// verifySource returns the folder of the sources if it is whole. The files are few and small
// enough to be compared byte by byte.
func (s *setup) verifySource(py *interpreter) (string, error) {
	sources, err := python.Sources()
	if err != nil {
		return "", err
	}
	dir := s.sourceDir(py, sources)
	if _, err := os.Stat(filepath.Join(dir, sourceMarker)); err != nil {
		return "", fmt.Errorf("the worker's sources are not laid out in %s", dir)
	}
	for name, want := range sources {
		got, err := os.ReadFile(filepath.Join(dir, python.Package, name))
		if err != nil || !bytes.Equal(got, want) {
			return "", fmt.Errorf("the worker's sources in %s are not whole: %s differs", dir, name)
		}
	}
	return dir, nil
}

// ensureSource lays the sources out if they are not. The lock is held.
func (s *setup) ensureSource(ctx context.Context, py *interpreter, rebuild bool) (string, error) {
	if !rebuild {
		if dir, err := s.verifySource(py); err == nil {
			return dir, nil
		}
	}
	s.progress(Progress{Step: StepSource})
	sources, err := python.Sources()
	if err != nil {
		return "", status.Wrap(status.Internal, op, err, "the worker's sources are not part of this build")
	}
	scratch, err := s.scratch("src")
	if err != nil {
		return "", err
	}
	defer removeAll(scratch)
	place := s.sourceDir(py, sources)
	if err := s.fillSource(ctx, py, sources, scratch, place); err != nil {
		return "", err
	}
	if err := s.install(scratch, place); err != nil {
		return "", err
	}
	return place, nil
}

func (s *setup) fillSource(ctx context.Context, py *interpreter, sources map[string][]byte, scratch, place string) error {
	pkg := filepath.Join(scratch, python.Package)
	if err := os.Mkdir(pkg, 0o755); err != nil {
		return s.unwritable(err)
	}
	for name, data := range sources {
		// Read-only: the compiled files are trusted without a look at the sources.
		if err := os.WriteFile(filepath.Join(pkg, name), data, 0o444); err != nil {
			return s.unwritable(err)
		}
	}
	_, err := run(ctx, command{
		Path: py.Path,
		Args: []string{
			"-I", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash",
			"-s", scratch, "-p", place, pkg,
		},
		Env: s.environ.forPython(),
		Dir: scratch,
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return status.Wrap(status.Internal, op, err, "%s cannot compile the worker's sources: %s", py.Path, lastOf(err))
	}
	if err := os.WriteFile(filepath.Join(scratch, sourceMarker), nil, 0o444); err != nil {
		return s.unwritable(err)
	}
	return nil
}

// lastOf returns the last line that a failed program wrote, or the failure.
func lastOf(err error) string {
	if f, ok := errors.AsType[*runError](err); ok {
		if line := f.lastLine(); line != "" {
			return line
		}
		return short(f.Err)
	}
	return err.Error()
}
