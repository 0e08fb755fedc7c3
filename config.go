package dspex

import (
	"log/slog"
	"time"

	"github.com/dspex/dspex/lm"
)

// DefaultRoute is the name under which programs reach [Config.LM].
const DefaultRoute = "default"

// Config says how a [Runtime] works. The zero value opens a Runtime that executes
// programs on Python workers but has no language model: the first call that needs one
// fails with [CodeInvalidArgument].
type Config struct {
	// Settings is everything that a file or the environment can say.
	Settings

	// LM is the model that programs use unless they name another. It is called
	// concurrently. The Runtime does not close it.
	LM lm.Model

	// LMs are further models by route name, reached with [WithLM]. The name
	// [DefaultRoute] is LM's.
	LMs map[string]lm.Model

	// Logger receives what happens inside, with the workers' own output at debug
	// level. Default: nothing is logged.
	Logger *slog.Logger

	// Store keeps what sessions remember, see [Session]. The Runtime does not close it.
	// Default: in memory, for as long as the Runtime exists. Package store/sqlite has one
	// that survives the process.
	Store Store

	// Now tells the time by which sessions expire, for tests. It is called concurrently.
	// Default: time.Now.
	Now func() time.Time
}

func (c Config) store() Store {
	if c.Store == nil {
		return NewMemoryStore()
	}
	return c.Store
}

func (c Config) clock() func() time.Time {
	if c.Now == nil {
		return time.Now
	}
	return c.Now
}
