package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// measurable reports whether the platform can keep the limits of memory: Linux can.
func measurable(Options) error { return nil }

// proportional returns the proportional set size of a process in bytes: what would become
// free without it, more or less, since pages that n processes share count 1/n each.
func proportional(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 2 || string(fields[0]) != "Pss:" {
			continue
		}
		kb, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return kb << 10, nil
	}
	return 0, fmt.Errorf("%s says nothing of Pss", name) // as of a process that is a zombie
}
