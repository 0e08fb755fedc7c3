package dspex

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEverySettingOfTheTypeIsInTheTableOnceUnderItsOwnName(t *testing.T) {
	t.Parallel()
	var s Settings
	table := make(map[uintptr]setting)
	for _, e := range s.settings() {
		pointer := reflect.ValueOf(e.value).Field(0).Pointer()
		if _, twice := table[pointer]; twice {
			t.Errorf("the field of %s is in the table twice", e.key)
		}
		table[pointer] = e
	}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			key := path + snake(field.Name)
			if field.Type.Kind() == reflect.Struct {
				walk(v.Field(i), key+".")
				continue
			}
			e, ok := table[v.Field(i).Addr().Pointer()]
			if !ok {
				t.Errorf("%s is not in the table", key)
				continue
			}
			env := "DSPEX_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			if key == "python.interpreter" {
				env = "DSPEX_PYTHON"
			}
			if e.key != key || e.env != env {
				t.Errorf("%s is called %s and %s in the table, want %s and %s", field.Name, e.key, e.env, key, env)
			}
			delete(table, v.Field(i).Addr().Pointer())
		}
	}
	walk(reflect.ValueOf(&s).Elem(), "")
	for _, e := range table {
		t.Errorf("%s is in the table but is no field", e.key)
	}
}

func snake(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_${2}"))
}

func TestEveryDefaultIsReadByItsOwnSetting(t *testing.T) {
	t.Parallel()
	var s Settings
	for _, e := range s.settings() {
		if e.def == "" {
			continue
		}
		if err := e.value.set(e.def); err != nil {
			t.Errorf("default of %s: %v", e.key, err)
		}
		if got := e.value.String(); got != e.def {
			t.Errorf("default of %s is written %q but reads as %q", e.key, e.def, got)
		}
	}
}

func TestTheZeroSettingsAreValidAndHaveTheDocumentedDefaults(t *testing.T) {
	t.Parallel()
	var s Settings
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	got := s.withDefaults()
	if got.Max < 1 {
		t.Errorf("Max = %d, want at least one worker", got.Max)
	}
	got.Max = 0
	want := Settings{
		Session: SessionSettings{TTL: time.Hour, Max: 10_000, Bytes: 65_536, Turns: 100},
		Backend: "process", Min: 1, Slots: 64, Queue: 1024,
		StartTimeout: time.Minute, DrainTimeout: 10 * time.Second,
		CancelGrace: 2 * time.Second, IdleTimeout: time.Minute, GrowAfter: 5 * time.Millisecond,
		StuckAfter: 30 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Settings{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if many := (Settings{Min: 1000}).withDefaults(); many.Max != 1000 {
		t.Errorf("Max = %d with Min 1000, want 1000", many.Max)
	}
}

func TestContradictorySettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings Settings
		want     string
	}{
		"max below min":             {Settings{Min: 4, Max: 2}, "max is 2 but min is 4"},
		"too many workers":          {Settings{Overflow: 1 << 62}, "overflow is 4611686018427387904: want at most 4096"},
		"negative count":            {Settings{Slots: -1}, "slots is -1: want zero or more"},
		"negative duration":         {Settings{CancelGrace: -time.Second}, "cancel_grace is -1s: want zero or more"},
		"negative size":             {Settings{RecycleMemory: -1}, "recycle_memory is -1: want zero or more"},
		"a bound nobody can keep":   {Settings{StuckAfter: time.Millisecond}, "stuck_after is 1ms: want at least 1s"},
		"unknown backend":           {Settings{Backend: "prcess"}, `backend is "prcess": no such value (did you mean "process"?)`},
		"unknown adapter":           {Settings{Adapter: "jsn"}, `adapter is "jsn": no such value (did you mean "json"?)`},
		"a module that is no name":  {Settings{Python: PythonSettings{Preload: []string{"os; x"}}}, `python.preload has "os; x"`},
		"a module that is relative": {Settings{Python: PythonSettings{Preload: []string{".rag"}}}, `python.preload has ".rag"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantInvalid(t, tc.settings.Validate(), tc.want)
		})
	}
}

func TestASizeIsReadWithItsUnitAndWrittenWithTheLargestThatFits(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		bytes int64
		text  string
	}{
		"0": {0, "0"}, "1000": {1000, "1000"}, "1024": {1024, "1KiB"}, "2GiB": {2 << 30, "2GiB"},
		"500 MiB": {500 << 20, "500MiB"}, "3MB": {3e6, "3000000"}, "1kB": {1000, "1000"}, "7B": {7, "7"},
	} {
		var s Settings
		must(t, s.Set("memory_limit", raw, Source{}))
		if got := find(t, s, "memory_limit"); s.MemoryLimit != want.bytes || got.Value != want.text {
			t.Errorf("%q is %d and written %v, want %d and %s", raw, s.MemoryLimit, got.Value, want.bytes, want.text)
		}
	}
	for _, raw := range []string{"", "MiB", "1.5GiB", "12 apples", "9999999999GiB", "0x10", "1mib"} {
		var s Settings
		wantInvalid(t, s.Set("memory_limit", raw, Source{}), "memory_limit is \""+raw+"\": want a whole number of bytes")
	}
	var s Settings
	wantInvalid(t, s.Set("recycle_memory", "-1MiB", Source{}), "want zero or more")
}

func TestAnUnknownSettingNamesTheNearestKnownOne(t *testing.T) {
	t.Parallel()
	var s Settings
	wantInvalid(t, s.Set("python.dirr", "/x", Source{}), `unknown setting "python.dirr" (did you mean "python.dir"?)`)
	wantInvalid(t, s.Set("colour", "red", Source{}), `unknown setting "colour"; known are backend, min, max`)
}

// The origins can be combined in 16 ways for one key; the highest present must win and
// must be the one that is named.
func TestFault_E1_ExplicitBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	t.Parallel()
	for bits := range 16 {
		file, env, flag, code := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
		var s Settings
		want := Setting{Value: 64, Origin: OriginDefault}
		if file {
			must(t, s.Set("slots", "1", Source{OriginFile, "dspex.yaml"}))
			want = Setting{Value: 1, Origin: OriginFile, Source: "dspex.yaml"}
		}
		if env {
			must(t, s.ApplyEnv([]string{"DSPEX_SLOTS=2"}))
			want = Setting{Value: 2, Origin: OriginEnvironment, Source: "DSPEX_SLOTS"}
		}
		if flag {
			must(t, s.Set("slots", "3", Source{OriginFlag, "--slots"}))
			want = Setting{Value: 3, Origin: OriginFlag, Source: "--slots"}
		}
		if code {
			s.Slots = 4
			want = Setting{Value: 4, Origin: OriginCode}
		}
		got := find(t, s, "slots")
		want.Key, want.Env, want.Doc = got.Key, got.Env, got.Doc
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("file %t, environment %t, flag %t, code %t (-want +got):\n%s", file, env, flag, code, diff)
		}
	}
}

func TestAFalseOrZeroThatWasWrittenStillBeatsALowerOrigin(t *testing.T) {
	t.Parallel()
	var s Settings
	must(t, s.Set("lazy", "true", Source{OriginFile, "f"}))
	must(t, s.Set("overflow", "4", Source{OriginFile, "f"}))
	must(t, s.ApplyEnv([]string{"DSPEX_LAZY=false", "DSPEX_OVERFLOW=0"}))
	if s.Lazy || s.Overflow != 0 {
		t.Errorf("Lazy = %t, Overflow = %d, want what the environment says", s.Lazy, s.Overflow)
	}
	for _, key := range []string{"lazy", "overflow"} {
		if got := find(t, s, key); got.Origin != OriginEnvironment {
			t.Errorf("%s comes from %s, want environment", key, got.Origin)
		}
	}
}

func TestACopyOfSettingsDoesNotShareItsOrigins(t *testing.T) {
	t.Parallel()
	var a Settings
	must(t, a.Set("min", "2", Source{OriginFile, "a"}))
	b := a
	must(t, b.Set("min", "2", Source{OriginFile, "b"}))
	if got := find(t, a, "min"); got.Source != "a" {
		t.Errorf("the original names %q, want a", got.Source)
	}
}

func find(t *testing.T, s Settings, key string) Setting {
	t.Helper()
	for _, e := range s.Explain() {
		if e.Key == key {
			return e
		}
	}
	t.Fatalf("no setting %s", key)
	return Setting{}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantInvalid(t *testing.T, err error, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeInvalidArgument {
		t.Fatalf("error is %v, want invalid_argument", err)
	}
	if !strings.Contains(e.Message, text) {
		t.Errorf("error is %q, want it to say %q", e.Message, text)
	}
}
