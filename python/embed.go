// Package python ships the Python half of dspex inside the Go module: the sources of the
// package dspex_worker and the hash-pinned locks of the environments that run it.
package python

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed dspex_worker/*.py locks/*.txt
var files embed.FS

// Package is the name of the Python package that [Sources] holds.
const Package = "dspex_worker"

// Sources returns the content of every source file of the package dspex_worker, by its file
// name. The map is the caller's own.
func Sources() (map[string][]byte, error) {
	names, err := fs.Glob(files, Package+"/*.py")
	if err != nil {
		return nil, fmt.Errorf("list the embedded Python sources: %w", err)
	}
	sources := make(map[string][]byte, len(names))
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the embedded Python sources: %w", err)
		}
		sources[path.Base(name)] = data
	}
	return sources, nil
}

// Lock returns the lock of that name, in the format of a pip requirements file with a hash for
// every file that may be installed: "worker" (what every worker needs), "local" (the extra that
// answers from a model on this machine) or "uv" (the installer itself). The locks "worker" and
// "local" are complete, and are installed without following dependencies.
func Lock(name string) ([]byte, error) {
	data, err := files.ReadFile("locks/" + name + ".txt")
	if err != nil {
		return nil, fmt.Errorf("no lock is named %q", name)
	}
	return data, nil
}
