package pyenv

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

// A file that an environment shares with the installer's cache is spoilt with it, and
// building again does not heal it.
func TestEnvironmentSharesNoFileWithTheInstallersCache(t *testing.T) {
	root := filepath.Join(whole.get(t), "env")
	seen := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		seen++
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
			t.Errorf("%s has %d names", path, stat.Nlink)
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d files were seen: %v", seen, err)
	}
}
