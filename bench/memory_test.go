//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// memoryLimit is what a worker may weigh after 1,000 predictions, in MB of its
// proportional share, in a pool of poolSize.
const (
	memoryLimit = 15
	poolSize    = 8
)

// BenchmarkMemory is the weight of a worker after predictions: its proportional set size,
// which counts a page that n processes share as 1/n of a page, and the pages that are its
// own. The fork server shares most of its pages with every worker, so the proportional
// size depends on how many there are: it is given for a pool of one and for poolSize.
func BenchmarkMemory(b *testing.B) {
	var single, many, private, late []float64
	for b.Loop() {
		rt := open(b, dspex.Settings{Min: 1, Max: 1})
		throughput(b, rt, 1_000, 32)
		m := weigh(b, rt.Stats().Workers[0].PID)
		single, private = append(single, m["Pss"]), append(private, m["Private_Dirty"])
		throughput(b, rt, 10_000, 32)
		late = append(late, weigh(b, rt.Stats().Workers[0].PID)["Private_Dirty"])
		shut(b, rt)

		rt = open(b, dspex.Settings{Min: poolSize, Max: poolSize})
		throughput(b, rt, poolSize*1_000, 32)
		for _, w := range rt.Stats().Workers {
			many = append(many, weigh(b, w.PID)["Pss"])
		}
		shut(b, rt)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(single), "MB-PSS-of-1")
	b.ReportMetric(median(many), "MB-PSS-of-8")
	b.ReportMetric(median(private), "MB-own@1000")
	b.ReportMetric(median(late), "MB-own@11000")
	if m := median(many); m > memoryLimit {
		b.Errorf("a worker weighs %.1f MB after 1,000 predictions, the limit is %d MB", m, memoryLimit)
	}
}

// weigh returns the memory of a process by the kernel's names, in MB.
func weigh(b *testing.B, pid int) map[string]float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	sizes := make(map[string]float64)
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		if err == nil {
			sizes[name] = kb / 1000
		}
	}
	if sizes["Pss"] == 0 {
		b.Fatalf("no Pss in %s", data)
	}
	return sizes
}
