//go:build !linux

package process

import "github.com/dspex/dspex/internal/status"

// measurable reports whether the platform can keep the limits of memory: only Linux can.
func measurable(o Options) error {
	if o.Recycle.Memory == 0 && o.MemoryLimit == 0 {
		return nil
	}
	return status.New(status.Unsupported, "open", "recycle_memory and memory_limit work on Linux only; leave them out")
}

// proportional is never called, since measurable refuses what would need it.
func proportional(int) (int64, error) {
	return 0, status.New(status.Unsupported, "run", "memory is measured on Linux only")
}
