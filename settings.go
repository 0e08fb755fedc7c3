package dspex

import (
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
)

// Settings is everything about a [Runtime] that a file or the environment can say;
// [Config] embeds it and adds what only Go code can give. The zero value works: a zero
// field has the default that its comment names.
//
// An explicit value in code or a flag beats the environment, which beats a file, which
// beats the default. [FromEnv] reads the environment; nothing else in this package does.
type Settings struct {
	// Backend chooses what executes programs: "process" (the default) runs real DSPy in
	// Python workers. A backend that cannot start makes [Open] fail; another one is
	// never put in its place.
	Backend string

	// Min is how many workers are kept when there is nothing to do. Default 1.
	Min int
	// Max is how many workers there may be, Overflow not counted. The default is the
	// number of CPUs that Go sees, or Min if that is more. Max below Min is refused.
	Max int
	// Slots is how many calls one worker runs at once. Default 64.
	Slots int
	// Overflow is how many short-lived workers may be added above Max while calls are
	// waiting. Default 0.
	Overflow int
	// Lazy makes [Open] return at once; workers start with the first call. By default
	// Open returns when Min workers have answered.
	Lazy bool
	// Queue is how many calls may wait for a worker; one more fails at once with
	// [CodeOverloaded]. Default 1024.
	Queue int

	// StartTimeout bounds the start of a worker, its import of DSPy included; building
	// the Python environment is not counted. Default 60 s.
	StartTimeout time.Duration
	// DrainTimeout bounds how long [Runtime.Close] waits for running calls. Default 10 s.
	DrainTimeout time.Duration
	// CancelGrace is how long a canceled call may go on in Python before its worker is
	// killed and replaced. Default 2 s.
	CancelGrace time.Duration
	// IdleTimeout is how long a worker above Min stays without work. Default 60 s.
	IdleTimeout time.Duration
	// GrowAfter is how long a call waits before a worker is added for it, if Max and
	// Overflow allow one. A call that finds no worker at all does not wait for it.
	// Default 5 ms: longer than a fork takes, shorter than a call of a model.
	GrowAfter time.Duration

	// RecycleRequests is after how many calls a worker is replaced by a fresh one. As for
	// the other reasons to recycle, the fresh worker is ready before the old one gets no
	// more calls, and the old one finishes those that it has; while no worker can be
	// started, the old one goes on. Default 0: never.
	RecycleRequests int
	// RecycleAge is how old a worker gets before it is replaced, less a random part of up
	// to a tenth, so that workers do not all end together. Default 0: never.
	RecycleAge time.Duration
	// RecycleMemory is how many bytes of memory a worker may use before it is replaced:
	// its proportional set size, in which pages that n processes share count 1/n each. It
	// is looked at after calls, at most once a second. Linux only. Default 0: never.
	RecycleMemory int64
	// RecycleIdle is after how long without work a worker that has had some is replaced,
	// which gives back the memory that the work has left behind. Default 0: never.
	RecycleIdle time.Duration
	// MemoryLimit is how many bytes of private memory a worker can ask the system for,
	// what it inherits included (50 MB or so with DSPy alone). Beyond it Python raises
	// MemoryError in the call that asks. Linux only. Default 0: no limit but the system's.
	MemoryLimit int64

	// StuckAfter is how long a worker may give no sign of life before it is killed and
	// replaced, found out in this time at the latest: whether it is stopped, or Python
	// code in it holds the interpreter without ever yielding. Code that does so for half
	// as long may already be taken for stuck. At least 1 s; default 30 s.
	StuckAfter time.Duration

	// Adapter is the prompt format of programs that choose none: "chat", "json" or
	// "xml". Empty, the default, means by the model: "json" where it can be constrained
	// to a JSON schema, "chat" elsewhere.
	Adapter string

	// Session bounds what sessions may use.
	Session SessionSettings

	// Python says which Python runs the workers.
	Python PythonSettings

	// recorded says where values came from that were not assigned in code, by key.
	recorded map[string]record
}

// SessionSettings bounds what the sessions of a [Runtime] may use. Together they
// remember Max times Bytes at most, 625 MiB by default.
type SessionSettings struct {
	// TTL is how long a [Session] is remembered after its last use. Default 1 h.
	TTL time.Duration
	// Max is how many sessions there may be: so many that remember something, and so many
	// that have a worker. One more fails with [CodeOverloaded]; of soft sessions the one
	// that was used longest ago merely loses its worker instead. Default 10,000.
	Max int
	// Bytes is how much one session may remember: keys, values and turns of the
	// conversation as JSON. Default 65,536.
	Bytes int
	// Turns is how many turns of its conversation a session remembers; more push out the
	// oldest. Default 100.
	Turns int
}

// PythonSettings says which Python runs the workers of the process backend.
type PythonSettings struct {
	// Interpreter is the Python, version 3.10 or later, that the environment is built
	// with: a path, or a name to look up on PATH. The default is the first of python3,
	// python3.13, … on PATH that is suitable.
	Interpreter string
	// Path is the interpreter of an environment of your own that has dspy, greenlet and
	// orjson. It is checked and used as it is; nothing is built. Default none.
	Path string
	// Dir is the directory that environments are built in. Default "dspex" in the
	// user's cache directory.
	Dir string
	// Spawn starts each worker as a new interpreter, which takes about half a second,
	// where the default forks it from one that has imported DSPy, which takes
	// milliseconds. For code that cannot bear a fork.
	Spawn bool
	// Preload lists modules to import before workers are forked, so that they share them.
	Preload []string
}

// backends and adapters are the values that Backend and Adapter may have.
func backends() []string { return []string{"process"} }
func adapters() []string { return []string{adapterChat, adapterJSON, adapterXML} }

// settings binds every key to its field. It is the only list of them: names of the
// environment's variables, files, defaults and `dspex config` come from it.
func (s *Settings) settings() []setting {
	return []setting{
		{"backend", "DSPEX_BACKEND", "process", choice{&s.Backend, backends()}, "what executes programs"},
		{"min", "DSPEX_MIN", "1", whole{&s.Min}, "workers kept when idle"},
		{"max", "DSPEX_MAX", "", whole{&s.Max}, "workers at most; by default the number of CPUs, or min if that is more"},
		{"slots", "DSPEX_SLOTS", "64", whole{&s.Slots}, "calls that one worker runs at once"},
		{"overflow", "DSPEX_OVERFLOW", "0", whole{&s.Overflow}, "short-lived workers above max"},
		{"lazy", "DSPEX_LAZY", "false", truth{&s.Lazy}, "start workers with the first call"},
		{"queue", "DSPEX_QUEUE", "1024", whole{&s.Queue}, "calls that may wait for a worker"},
		{"start_timeout", "DSPEX_START_TIMEOUT", "1m0s", span{&s.StartTimeout}, "how long a worker may take to start"},
		{"drain_timeout", "DSPEX_DRAIN_TIMEOUT", "10s", span{&s.DrainTimeout}, "how long closing waits for running calls"},
		{"cancel_grace", "DSPEX_CANCEL_GRACE", "2s", span{&s.CancelGrace}, "how long a canceled call may go on in Python"},
		{"idle_timeout", "DSPEX_IDLE_TIMEOUT", "1m0s", span{&s.IdleTimeout}, "how long a worker above min stays idle"},
		{"grow_after", "DSPEX_GROW_AFTER", "5ms", span{&s.GrowAfter}, "how long a call waits before a worker is added for it"},
		{"recycle_requests", "DSPEX_RECYCLE_REQUESTS", "0", whole{&s.RecycleRequests}, "calls after which a worker is replaced; 0 for never"},
		{"recycle_age", "DSPEX_RECYCLE_AGE", "0s", span{&s.RecycleAge}, "age at which a worker is replaced, up to a tenth earlier; 0 for never"},
		{"recycle_memory", "DSPEX_RECYCLE_MEMORY", "0", size{&s.RecycleMemory}, "memory (PSS) beyond which a worker is replaced, such as 500MiB; 0 for never"},
		{"recycle_idle", "DSPEX_RECYCLE_IDLE", "0s", span{&s.RecycleIdle}, "time without work after which a worker that had some is replaced; 0 for never"},
		{"memory_limit", "DSPEX_MEMORY_LIMIT", "0", size{&s.MemoryLimit}, "private memory beyond which Python raises MemoryError, such as 2GiB; 0 for no limit"},
		{"stuck_after", "DSPEX_STUCK_AFTER", "30s", span{&s.StuckAfter}, "how long a worker may give no sign of life before it is killed"},
		{"adapter", "DSPEX_ADAPTER", "", choice{&s.Adapter, adapters()}, "prompt format; by default the one that suits the model"},
		{"session.ttl", "DSPEX_SESSION_TTL", "1h0m0s", span{&s.Session.TTL}, "how long a session is remembered after its last use"},
		{"session.max", "DSPEX_SESSION_MAX", "10000", whole{&s.Session.Max}, "sessions at most"},
		{"session.bytes", "DSPEX_SESSION_BYTES", "65536", whole{&s.Session.Bytes}, "bytes of JSON that one session may remember"},
		{"session.turns", "DSPEX_SESSION_TURNS", "100", whole{&s.Session.Turns}, "turns of its conversation that a session remembers"},
		{"python.interpreter", "DSPEX_PYTHON", "", text{&s.Python.Interpreter}, "Python that the environment is built with; by default the first suitable python3 on PATH"},
		{"python.path", "DSPEX_PYTHON_PATH", "", text{&s.Python.Path}, "interpreter of an environment of your own"},
		{"python.dir", "DSPEX_PYTHON_DIR", "", text{&s.Python.Dir}, "directory of built environments; by default dspex in the user's cache directory"},
		{"python.spawn", "DSPEX_PYTHON_SPAWN", "false", truth{&s.Python.Spawn}, "start workers as new interpreters instead of forking them"},
		{"python.preload", "DSPEX_PYTHON_PRELOAD", "", list{&s.Python.Preload}, "modules to import before forking, separated by commas"},
	}
}

// Set gives the setting key, such as "python.dir", the value that raw spells: whole
// numbers in decimal, durations as in "1m30s", true or false, lists separated by commas.
// An unknown key or a value that cannot be read is [CodeInvalidArgument]. Use it to bring
// in a source of your own, lowest precedence first; from is what [Settings.Explain] will
// say about it. Set must not be called concurrently.
func (s *Settings) Set(key, raw string, from Source) error {
	for _, e := range s.settings() {
		if e.key != key {
			continue
		}
		if err := e.value.set(raw); err != nil {
			name := from.Name
			if from.Origin != OriginEnvironment {
				name = key
			}
			return status.New(status.InvalidArgument, "settings", "%s is %q: %s", name, raw, err)
		}
		// Copies of a Settings share the map, so it is never changed in place.
		recorded := maps.Clone(s.recorded)
		if recorded == nil {
			recorded = make(map[string]record)
		}
		recorded[key] = record{source: from, value: e.value.String()}
		s.recorded = recorded
		return nil
	}
	return status.New(status.InvalidArgument, "settings", "unknown setting %q%s", key, suggest(key, s.keys()))
}

// Validate reports the first value that cannot be used, alone or with the others, as
// [CodeInvalidArgument] with the setting's name. [Open] calls it.
func (s Settings) Validate() error {
	for _, e := range s.settings() {
		if err := e.value.check(); err != nil {
			return status.New(status.InvalidArgument, "settings", "%s is %s: %s", e.key, e.value.quoted(), err)
		}
	}
	for _, size := range []struct {
		key         string
		value, most int
	}{
		{"min", s.Min, mostWorkers},
		{"max", s.Max, mostWorkers},
		{"overflow", s.Overflow, mostWorkers},
		{"slots", s.Slots, mostCalls},
		{"queue", s.Queue, mostCalls},
	} {
		if size.value > size.most {
			return status.New(status.InvalidArgument, "settings", "%s is %d: want at most %d", size.key, size.value, size.most)
		}
	}
	if effective := s.withDefaults(); effective.Max < effective.Min {
		return status.New(status.InvalidArgument, "settings",
			"max is %d but min is %d: give a max of at least min, or none", effective.Max, effective.Min)
	}
	if s.StuckAfter != 0 && s.StuckAfter < leastStuckAfter {
		return status.New(status.InvalidArgument, "settings",
			"stuck_after is %v: want at least %v, or healthy workers are killed", s.StuckAfter, leastStuckAfter)
	}
	module := regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`)
	for _, name := range s.Python.Preload {
		if !module.MatchString(name) {
			return status.New(status.InvalidArgument, "settings",
				"python.preload has %q: want a module's dotted name, such as \"acme.rag\"", name)
		}
	}
	return nil
}

// mostWorkers is more than any one machine has the memory for, mostCalls more than it has
// for calls that wait; beyond them is a slip of the pen.
const (
	mostWorkers = 4096
	mostCalls   = 1 << 24
)

// leastStuckAfter is the shortest StuckAfter that can be kept: the stacks of a stuck worker
// may take 200 ms, and building a program keeps a healthy one from answering for some 30 ms.
const leastStuckAfter = time.Second

// resolve returns the settings in force, or why they cannot be used.
func (s Settings) resolve() (Settings, error) {
	if err := s.Validate(); err != nil {
		return Settings{}, err
	}
	return s.withDefaults(), nil
}

// withDefaults returns s with every zero field replaced by its default.
func (s Settings) withDefaults() Settings {
	s.Python.Preload = slices.Clone(s.Python.Preload)
	for _, e := range s.settings() {
		if e.value.zero() && e.def != "" {
			// The defaults are constants of this file; a test reads each of them.
			_ = e.value.set(e.def)
		}
	}
	if s.Max == 0 {
		s.Max = max(s.Min, runtime.GOMAXPROCS(0))
	}
	return s
}

// keys lists the name of every setting.
func (s *Settings) keys() []string {
	var keys []string
	for _, e := range s.settings() {
		keys = append(keys, e.key)
	}
	return keys
}

// suggest returns " (did you mean …?)" when one of candidates is close to name, and the
// whole list otherwise.
func suggest(name string, candidates []string) string {
	if near, ok := nearest.Nearest(name, candidates); ok {
		return " (did you mean " + strconv.Quote(near) + "?)"
	}
	return "; known are " + strings.Join(candidates, ", ")
}
