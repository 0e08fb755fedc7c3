package spec

import (
	"time"
)

// Python's datetime covers the years 1 to 9999 in microseconds.
const (
	timeLayout  = "2006-01-02T15:04:05.999999Z07:00"
	naiveLayout = "2006-01-02T15:04:05.999999999"
	dateLayout  = "2006-01-02"
)

// time writes a point in time with its offset, cut to microseconds.
func (e *encoder) time(t time.Time) *fault {
	if _, offset := t.Zone(); offset%60 != 0 || offset <= -24*3600 || offset >= 24*3600 {
		t = t.UTC() // an offset in seconds has no JSON form
	}
	if year := t.Year(); year < 1 || year > 9999 {
		return faultf("the year %d is outside of what Python's datetime can hold, 1 to 9999", year)
	}
	e.buf = append(e.buf, '"')
	e.buf = t.AppendFormat(e.buf, timeLayout)
	e.buf = append(e.buf, '"')
	return nil
}

// readTime reads a point in time as Python writes it. One without an offset is in UTC.
func readTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, naiveLayout, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
