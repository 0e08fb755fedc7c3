package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/term"
)

// page writes a story for a person: with emphasis on a terminal, plain elsewhere.
type page struct {
	w    io.Writer
	bold string
	dim  string
	off  string
}

// newPage returns a page on w, or one that drops everything if silent.
func newPage(w io.Writer, silent bool) *page {
	switch {
	case silent:
		return &page{w: io.Discard}
	case isTerminal(w) && os.Getenv("NO_COLOR") == "":
		return &page{w: w, bold: "\x1b[1m", dim: "\x1b[2m", off: "\x1b[0m"}
	default:
		return &page{w: w}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *page) heading(text string) { fmt.Fprintf(p.w, "%s%s%s\n", p.bold, text, p.off) }
func (p *page) chapter(text string) { fmt.Fprintf(p.w, "\n%s%s%s\n", p.bold, text, p.off) }

func (p *page) linef(format string, args ...any) {
	fmt.Fprintf(p.w, "  "+format+"\n", args...)
}

func (p *page) notef(format string, args ...any) {
	fmt.Fprintf(p.w, "  %s%s%s\n", p.dim, fmt.Sprintf(format, args...), p.off)
}

// ms returns milliseconds with three decimals.
func ms(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// took writes a duration for a person.
func took(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", ms(d))
	default:
		return fmt.Sprintf("%.1f ms", ms(d))
	}
}
