package pyenv

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/python"
)

// scratchPrefix begins the names of what is being built or thrown away. Whoever holds the lock
// may remove everything that is called so.
const scratchPrefix = ".scratch-"

// lockPoll is how often a waiting process looks whether the lock is free. A build takes seconds,
// so this adds nothing that is felt, and it lets the wait be canceled.
const lockPoll = 25 * time.Millisecond

// setup is one call of Ensure or Inspect.
type setup struct {
	opts     Options
	root     string
	environ  environ
	lockName string // the lock of the wanted environment
	lockText []byte
	started  time.Time
}

func newSetup(o Options) (*setup, error) {
	s := &setup{opts: o, lockName: "worker", started: time.Now()}
	if o.Extra != "" {
		s.lockName = o.Extra
	}
	if s.lockName != "worker" && s.lockName != Local {
		return nil, status.New(status.InvalidArgument, op, "no extra is named %q; there is %q", o.Extra, Local)
	}
	text, err := python.Lock(s.lockName)
	if err != nil {
		return nil, status.Wrap(status.Internal, op, err, "the lock %q is not part of this build", s.lockName)
	}
	s.lockText = text
	s.environ = newEnviron(o.Environ)
	root := o.Dir
	if root == "" {
		if root, err = defaultRoot(); err != nil {
			return nil, err
		}
	}
	if s.root, err = filepath.Abs(root); err != nil {
		return nil, status.Wrap(status.Unavailable, op, err, "cannot resolve the folder %q: %v", root, err)
	}
	return s, nil
}

// key names an environment: another interpreter, another build of Python or another lock makes
// another one.
func (s *setup) key(py *interpreter) string {
	h := sha256.New()
	fmt.Fprintf(h, "1\n%s\n%s\n%s\n%s\n%s\n", py.Path, py.Full, py.Platform, py.ABI, s.lockName)
	h.Write(s.lockText)
	return fmt.Sprintf("%s-py%d.%d-%s", s.lockName, py.Numbers[0], py.Numbers[1], hex.EncodeToString(h.Sum(nil))[:16])
}

func (s *setup) envDir(py *interpreter) string {
	return filepath.Join(s.root, "env", s.key(py))
}

func (s *setup) progress(p Progress) {
	if s.opts.Progress == nil {
		return
	}
	p.Extra = s.opts.Extra
	p.Elapsed = time.Since(s.started)
	s.opts.Progress(p)
}

// lock takes the root's lock, waiting for as long as another process builds. The kernel frees it
// when its holder dies, however it dies.
func (s *setup) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		return nil, s.unwritable(err)
	}
	l := flock.New(filepath.Join(s.root, "lock"), flock.SetPermissions(0o644))
	held, err := l.TryLock()
	if err == nil && !held {
		s.progress(Progress{Step: StepWait, Detail: "something else is being set up in " + s.root})
		_, err = l.TryLockContext(ctx, lockPoll)
	}
	if err != nil {
		_ = l.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, s.unwritable(err)
	}
	return func() { _ = l.Close() }, nil
}

func (s *setup) unwritable(err error) error {
	return status.Wrap(status.Unavailable, op, err,
		"the Python environment is not set up, and nothing can be written to %s (%s); run `dspex setup --dir DIR` as a user who may write, or name another folder with Config.Python.Dir or DSPEX_PYTHON_DIR",
		s.root, short(err))
}

// scratch makes an empty folder beside where its content will be renamed to. The lock is held.
func (s *setup) scratch(parent string) (string, error) {
	dir := filepath.Join(s.root, parent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", s.unwritable(err)
	}
	name := filepath.Join(dir, scratchPrefix+strings.ToLower(rand.Text()[:12]))
	// Not os.MkdirTemp: it would keep other users from an environment that root built.
	if err := os.Mkdir(name, 0o755); err != nil {
		return "", s.unwritable(err)
	}
	return name, nil
}

// install renames what was built into its place. What was there is moved away first: processes
// that run in it keep their open files.
func (s *setup) install(built, place string) error {
	if _, err := os.Lstat(place); err == nil {
		old := filepath.Join(filepath.Dir(place), scratchPrefix+strings.ToLower(rand.Text()[:12]))
		if err := os.Rename(place, old); err != nil {
			return s.unwritable(err)
		}
		defer removeAll(old)
	}
	if err := os.Rename(built, place); err != nil {
		return s.unwritable(err)
	}
	return nil
}

// removeLeftovers clears what killed builds left. The lock is held, so nothing is in use.
func (s *setup) removeLeftovers() {
	for _, parent := range []string{"env", "src", "tools"} {
		found, err := filepath.Glob(filepath.Join(s.root, parent, scratchPrefix+"*"))
		if err != nil {
			continue
		}
		for _, dir := range found {
			removeAll(dir)
		}
	}
}

// removeAll removes a folder, also when processes that were just killed still write a last file.
func removeAll(dir string) {
	for range 5 {
		if os.RemoveAll(dir) == nil {
			return
		}
	}
}

// short returns what a file operation failed with, without the path that the message names.
func short(err error) string {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err.Error()
	case errors.As(err, &l):
		return l.Err.Error()
	default:
		return err.Error()
	}
}
