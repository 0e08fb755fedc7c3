package dspex

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one entry of the table of settings, bound to a field of a Settings.
type setting struct {
	key   string // as files and `dspex config` spell it
	env   string // name of the environment's variable
	def   string // default in text form; empty when the zero value is the default
	value value
	doc   string // one line
}

// value reads and writes one field by its text form.
type value interface {
	fmt.Stringer
	set(raw string) error
	check() error   // whether the value alone can be used
	zero() bool     // whether the field says nothing
	get() any       // the value for JSON: string, int, bool or []string
	quoted() string // the value for an error message
}

type text struct{ p *string }

func (v text) set(raw string) error { *v.p = raw; return nil }
func (v text) check() error         { return nil }
func (v text) zero() bool           { return *v.p == "" }
func (v text) get() any             { return *v.p }
func (v text) String() string       { return *v.p }
func (v text) quoted() string       { return strconv.Quote(*v.p) }

// choice is a text with a closed set of values; empty is always one of them.
type choice struct {
	p     *string
	known []string
}

func (v choice) set(raw string) error { *v.p = raw; return v.check() }
func (v choice) zero() bool           { return *v.p == "" }
func (v choice) get() any             { return *v.p }
func (v choice) String() string       { return *v.p }
func (v choice) quoted() string       { return strconv.Quote(*v.p) }

func (v choice) check() error {
	if *v.p == "" || slices.Contains(v.known, *v.p) {
		return nil
	}
	return errors.New("no such value" + suggest(*v.p, v.known))
}

// whole is a count: zero or more.
type whole struct{ p *int }

func (v whole) zero() bool     { return *v.p == 0 }
func (v whole) get() any       { return *v.p }
func (v whole) String() string { return strconv.Itoa(*v.p) }
func (v whole) quoted() string { return v.String() }

func (v whole) set(raw string) error {
	n, err := strconv.Atoi(raw)
	if err != nil {
		return errors.New("want a whole number")
	}
	*v.p = n
	return v.check()
}

func (v whole) check() error {
	if *v.p < 0 {
		return errors.New("want zero or more")
	}
	return nil
}

type truth struct{ p *bool }

func (v truth) check() error   { return nil }
func (v truth) zero() bool     { return !*v.p }
func (v truth) get() any       { return *v.p }
func (v truth) String() string { return strconv.FormatBool(*v.p) }
func (v truth) quoted() string { return v.String() }

func (v truth) set(raw string) error {
	b, err := strconv.ParseBool(raw)
	if err != nil {
		return errors.New("want true or false")
	}
	*v.p = b
	return nil
}

// span is a duration: zero or more.
type span struct{ p *time.Duration }

func (v span) zero() bool     { return *v.p == 0 }
func (v span) get() any       { return v.p.String() }
func (v span) String() string { return v.p.String() }
func (v span) quoted() string { return v.String() }

func (v span) set(raw string) error {
	d, err := time.ParseDuration(raw)
	if err != nil {
		return errors.New(`want a duration with its unit, such as "90s" or "1m30s"`)
	}
	*v.p = d
	return v.check()
}

func (v span) check() error {
	if *v.p < 0 {
		return errors.New("want zero or more")
	}
	return nil
}

// size is a number of bytes: zero or more.
type size struct{ p *int64 }

// units are the suffixes of sizes, the longest first, so that "B" is found last.
func units() []unit {
	return []unit{
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
	}
}

type unit struct {
	name  string
	bytes int64
}

func (v size) zero() bool     { return *v.p == 0 }
func (v size) get() any       { return v.String() }
func (v size) quoted() string { return v.String() }

// String uses the largest binary unit that divides the value.
func (v size) String() string {
	for _, u := range units()[:3] {
		if *v.p != 0 && *v.p%u.bytes == 0 {
			return strconv.FormatInt(*v.p/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(*v.p, 10)
}

func (v size) set(raw string) error {
	number, factor := raw, int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(raw, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return errors.New(`want a whole number of bytes, or one with its unit, such as "500MiB" or "2GB"`)
	}
	*v.p = n * factor
	return v.check()
}

func (v size) check() error {
	if *v.p < 0 {
		return errors.New("want zero or more")
	}
	return nil
}

type list struct{ p *[]string }

func (v list) check() error   { return nil }
func (v list) zero() bool     { return len(*v.p) == 0 }
func (v list) get() any       { return append([]string{}, *v.p...) }
func (v list) String() string { return strings.Join(*v.p, ",") }
func (v list) quoted() string { return strconv.Quote(v.String()) }

func (v list) set(raw string) error {
	var items []string
	for item := range strings.SplitSeq(raw, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	*v.p = items
	return nil
}
