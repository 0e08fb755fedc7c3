// Package storetest checks that a Store keeps its contract.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
)

// moment is the present of every check.
var moment = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC) //nolint:gochecknoglobals // a constant

// Conformance checks a kind of store. Build returns an empty one for each check and
// releases it with t.Cleanup.
func Conformance(t *testing.T, build func(t *testing.T) dspex.Store) {
	t.Helper()
	checks := map[string]func(t *testing.T, s dspex.Store){
		"what is unknown is not there":                   unknown,
		"a record comes back as it was written":          roundTrip,
		"records are copies":                             copies,
		"a failed change changes nothing":                failedChange,
		"concurrent changes are not lost":                concurrent,
		"a record is renewed unless it has expired":      renewal,
		"what has expired is forgotten and nothing else": expiry,
		"an end is told once":                            deletion,
		"an ended context ends the wait":                 canceled,
		"ids are kept apart":                             ids,
	}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		t.Run(name, func(t *testing.T) { checks[name](t, build(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s dspex.Store, id string) *dspex.SessionRecord {
	t.Helper()
	r, err := s.Read(t.Context(), id)
	must(t, err)
	return r
}

func length(t *testing.T, s dspex.Store) int {
	t.Helper()
	n, err := s.Len(t.Context())
	must(t, err)
	return n
}

// put writes a record that expires after d.
func put(t *testing.T, s dspex.Store, id string, d time.Duration) {
	t.Helper()
	must(t, s.Write(t.Context(), id, func(r *dspex.SessionRecord) error {
		r.Expires = moment.Add(d)
		return nil
	}))
}

func unknown(t *testing.T, s dspex.Store) {
	if r := read(t, s, "a"); r != nil {
		t.Errorf("read %+v", r)
	}
	if ok, err := s.Renew(t.Context(), "a", moment, moment.Add(time.Hour)); ok || err != nil {
		t.Errorf("renewed: %v, %v", ok, err)
	}
	if ok, err := s.Delete(t.Context(), "a"); ok || err != nil {
		t.Errorf("deleted: %v, %v", ok, err)
	}
	if n, err := s.Expire(t.Context(), moment); n != 0 || err != nil {
		t.Errorf("expired: %d, %v", n, err)
	}
	if n := length(t, s); n != 0 {
		t.Errorf("%d records", n)
	}
	must(t, s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error {
		if diff := cmp.Diff(&dspex.SessionRecord{}, r); diff != "" {
			t.Errorf("a new record is not zero:\n%s", diff)
		}
		return nil
	}))
}

func roundTrip(t *testing.T, s dspex.Store) {
	want := &dspex.SessionRecord{
		Values: map[string]json.RawMessage{
			"n": json.RawMessage(`12345678901234567890`), "text": json.RawMessage(`"a\u0000b €"`),
			"null": json.RawMessage(`null`), "": json.RawMessage(`{"deep":[1,{"er":true}]}`),
			"large": json.RawMessage(`"` + strings.Repeat("x", 1<<16) + `"`),
		},
		History: []json.RawMessage{json.RawMessage(`{"question":"Who?"}`), json.RawMessage(`{"question":"Why?"}`)},
		Expires: moment,
	}
	must(t, s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error {
		*r = *want
		return nil
	}))
	if diff := cmp.Diff(want, read(t, s, "a")); diff != "" {
		t.Errorf("written (-) and read (+):\n%s", diff)
	}
	must(t, s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error {
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("written (-) and given to change (+):\n%s", diff)
		}
		r.Values, r.History = nil, nil
		return nil
	}))
	if r := read(t, s, "a"); r == nil || len(r.Values) != 0 || len(r.History) != 0 {
		t.Errorf("read %+v, want an empty record", r)
	}
}

func copies(t *testing.T, s dspex.Store) {
	value, turn := json.RawMessage(`"aa"`), json.RawMessage(`{"a":1}`)
	must(t, s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error {
		r.Values, r.History = map[string]json.RawMessage{"k": value}, []json.RawMessage{turn}
		r.Expires = moment
		return nil
	}))
	want := read(t, s, "a")
	value[1], turn[2] = 'z', 'z'
	changed := read(t, s, "a")
	changed.Values["k"][1], changed.History[0][2] = 'z', 'z'
	changed.Values["more"] = value
	if diff := cmp.Diff(want, read(t, s, "a")); diff != "" {
		t.Errorf("the record changed with a copy of it:\n%s", diff)
	}
}

func failedChange(t *testing.T, s dspex.Store) {
	put(t, s, "a", time.Hour)
	want := read(t, s, "a")
	refused := errors.New("refused")
	for _, id := range []string{"a", "new"} {
		err := s.Write(t.Context(), id, func(r *dspex.SessionRecord) error {
			r.Values = map[string]json.RawMessage{"k": json.RawMessage(`1`)}
			return refused
		})
		if err != refused { //nolint:errorlint // it is to be this very error
			t.Errorf("%s: got %v, want the error of change", id, err)
		}
	}
	if diff := cmp.Diff(want, read(t, s, "a")); diff != "" {
		t.Errorf("the record changed:\n%s", diff)
	}
	if n := length(t, s); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}

func concurrent(t *testing.T, s dspex.Store) {
	const writers, each = 8, 25
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range each {
				id := fmt.Sprintf("s%d", (w+i)%2)
				err := s.Write(t.Context(), id, func(r *dspex.SessionRecord) error {
					var n int
					if old := r.Values["n"]; old != nil {
						if err := json.Unmarshal(old, &n); err != nil {
							return err
						}
					}
					data, err := json.Marshal(n + 1)
					r.Values, r.Expires = map[string]json.RawMessage{"n": data}, moment
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	total := 0
	for _, id := range []string{"s0", "s1"} {
		var n int
		must(t, json.Unmarshal(read(t, s, id).Values["n"], &n))
		total += n
	}
	if total != writers*each {
		t.Errorf("%d of %d changes were kept", total, writers*each)
	}
}

func renewal(t *testing.T, s dspex.Store) {
	put(t, s, "a", time.Second)
	renew := func(now, expires time.Duration, want bool) {
		t.Helper()
		ok, err := s.Renew(t.Context(), "a", moment.Add(now), moment.Add(expires))
		if ok != want || err != nil {
			t.Errorf("at %v: %v, %v", now, ok, err)
		}
	}
	renew(time.Second-1, time.Minute, true)
	renew(time.Second, time.Second, true) // It does not shorten.
	if r := read(t, s, "a"); !r.Expires.Equal(moment.Add(time.Minute)) {
		t.Errorf("expires at %v", r.Expires)
	}
	renew(time.Minute, time.Hour, false)
	if r := read(t, s, "a"); !r.Expires.Equal(moment.Add(time.Minute)) {
		t.Errorf("what has expired was renewed until %v", r.Expires)
	}
}

func expiry(t *testing.T, s dspex.Store) {
	for i, d := range []time.Duration{3, 1, 2, 5, 4} {
		put(t, s, strconv.Itoa(i), d)
	}
	must(t, s.Write(t.Context(), "1", func(r *dspex.SessionRecord) error { // 1 becomes 10
		r.Expires = moment.Add(10)
		return nil
	}))
	if ok, err := s.Renew(t.Context(), "2", moment, moment.Add(9)); !ok || err != nil { // 2 becomes 9
		t.Errorf("renewed: %v, %v", ok, err)
	}
	for _, step := range []struct {
		at      time.Duration
		expired int
		left    int
	}{{2, 0, 5}, {3, 1, 4}, {5, 2, 2}, {8, 0, 2}, {10, 2, 0}} {
		n, err := s.Expire(t.Context(), moment.Add(step.at))
		must(t, err)
		if left := length(t, s); n != step.expired || left != step.left {
			t.Errorf("at %d: %d expired and %d are left, want %d and %d", step.at, n, left, step.expired, step.left)
		}
	}
}

func deletion(t *testing.T, s dspex.Store) {
	put(t, s, "a", time.Hour)
	put(t, s, "b", time.Hour)
	for _, want := range []bool{true, false} {
		if ok, err := s.Delete(t.Context(), "a"); ok != want || err != nil {
			t.Errorf("deleted: %v, %v, want %v", ok, err, want)
		}
	}
	if read(t, s, "a") != nil || read(t, s, "b") == nil || length(t, s) != 1 {
		t.Error("the wrong record was deleted")
	}
}

func canceled(t *testing.T, s dspex.Store) {
	put(t, s, "a", time.Hour)
	want := read(t, s, "a")
	ctx, cancel := context.WithCancel(t.Context())
	blocked := s.Write(t.Context(), "a", func(*dspex.SessionRecord) error {
		failed := make(chan error, 1)
		go func() {
			failed <- s.Write(ctx, "a", func(*dspex.SessionRecord) error {
				t.Error("two changes at once")
				return nil
			})
		}()
		cancel()
		return <-failed
	})
	if !errors.Is(blocked, context.Canceled) {
		t.Errorf("a change that waits: %v, want canceled", blocked)
	}
	_, reading := s.Read(ctx, "a")
	_, renewing := s.Renew(ctx, "a", moment, moment.Add(9*time.Hour))
	_, deleting := s.Delete(ctx, "a")
	_, expiring := s.Expire(ctx, moment.Add(9*time.Hour))
	_, counting := s.Len(ctx)
	for name, err := range map[string]error{
		"Read": reading, "Renew": renewing, "Delete": deleting, "Expire": expiring, "Len": counting,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want canceled", name, err)
		}
	}
	if diff := cmp.Diff(want, read(t, s, "a")); diff != "" {
		t.Errorf("something was done all the same:\n%s", diff)
	}
}

func ids(t *testing.T, s dspex.Store) {
	for _, id := range []string{"a", "A", "a'; DROP TABLE sessions; --", "%", "_", "a/../b", strings.Repeat("x", 128)} {
		must(t, s.Write(t.Context(), id, func(r *dspex.SessionRecord) error {
			if r.Values != nil {
				t.Errorf("%q was there already", id)
			}
			data, err := json.Marshal(id)
			r.Values, r.Expires = map[string]json.RawMessage{"id": data}, moment
			return err
		}))
	}
	if n := length(t, s); n != 7 {
		t.Errorf("%d records, want 7", n)
	}
}
