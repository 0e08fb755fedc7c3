package python_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dspex/dspex/python"
)

func TestEverySourceIsEmbedded(t *testing.T) {
	sources, err := python.Sources()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(python.Package, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".py" {
			return err
		}
		found++
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(python.Package, path)
		if err != nil {
			return err
		}
		if !bytes.Equal(sources[name], want) {
			t.Errorf("%s is not embedded as it is", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != len(sources) {
		t.Errorf("%d sources are embedded, %d are there", len(sources), found)
	}
}

func TestLocksPinEveryFileAndNameNoIndex(t *testing.T) {
	requirement := regexp.MustCompile(`^[a-z0-9-]+==\S+( ; .+)? \\$`)
	hash := regexp.MustCompile(`^ {4}--hash=sha256:[0-9a-f]{64}( \\)?$`)
	for _, name := range []string{"worker", "local", "uv"} {
		t.Run(name, func(t *testing.T) {
			data, err := python.Lock(name)
			if err != nil {
				t.Fatal(err)
			}
			pinned := false
			for line := range strings.Lines(string(data)) {
				line = strings.TrimSuffix(line, "\n")
				switch {
				case hash.MatchString(line):
					pinned = true
				case requirement.MatchString(line):
					pinned = false
				default:
					t.Errorf("unexpected line %q", line)
				}
			}
			if !pinned {
				t.Error("a requirement has no hash")
			}
		})
	}
	if _, err := python.Lock("nothing"); err == nil {
		t.Error("a lock that is not there was returned")
	}
}
