package spec_test

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/status"
)

// rounds is how many random values each property sees in the short form.
const rounds = 2000

// Leaf and Node have every kind of field that a program can have.
type Leaf struct {
	S   string
	B   bool
	I   int
	I8  int8
	I64 int64
	U   uint
	U64 uint64
	F32 float32
	F64 float64
	X   []byte
	T   time.Time
	L   Level
	P   Priority
	C   Color
	Tag string `enum:"one,two"`
	Ip  netip.Addr
	H   big.Int
	A   any
	V   Vector
}

type Node struct {
	Leaf  Leaf            `json:"leaf"`
	Ptr   *Leaf           `json:"ptr"`
	List  []Leaf          `json:"list"`
	Ptrs  []*int          `json:"ptrs"`
	Deep  [][]string      `json:"deep"`
	Pair  [2]string       `json:"pair"`
	Dict  map[string]Leaf `json:"dict"`
	Bytes map[string]*[]byte
	Opt   string `json:"opt,omitempty"`
	Zero  int    `json:"zero,omitzero"`
	Next  *Node  `json:"next"`
}

// random makes values.
type random struct {
	*rand.Rand
	hostile bool // strings that are not UTF-8, NaN and infinities are among them
}

func (r random) text() string {
	var b strings.Builder
	for range r.IntN(6) {
		switch r.IntN(6) {
		case 0:
			b.WriteByte(byte(r.IntN(128)))
		case 1:
			b.WriteString([]string{`"`, `\`, `\ufffd`, `\u0000`, "\uFFFD", "\u2028", "<&>", "{\"$attachment\":0}", "😀", "null"}[r.IntN(10)])
		case 2:
			if r.hostile {
				b.WriteByte(byte(r.IntN(256)))
				break
			}
			fallthrough
		default:
			if c := rune(r.IntN(utf8.MaxRune)); utf8.ValidRune(c) {
				b.WriteRune(c)
			}
		}
	}
	return b.String()
}

func (r random) float() float64 {
	switch r.IntN(4) {
	case 0:
		return float64(r.IntN(100))
	case 1:
		return []float64{0, math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, 1e21, 1e-7, 0.1}[r.IntN(8)]
	default:
		f := math.Float64frombits(r.Uint64())
		if !r.hostile && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return 0.5
		}
		return f
	}
}

// anything returns a value as it comes back from a field of any type.
func (r random) anything(depth int) any {
	switch n := r.IntN(8); {
	case n == 0:
		return nil
	case n == 1:
		return r.IntN(2) == 0
	case n == 2:
		return r.text()
	case n == 3:
		return int64(r.Uint64())
	case n == 4:
		return r.float()
	case n == 5:
		return uint64(math.MaxInt64) + 1 + r.Uint64N(1000)
	case depth <= 0:
		return json.Number("1" + strings.Repeat("0", 25))
	case n == 6:
		list := make([]any, r.IntN(3))
		for i := range list {
			list[i] = r.anything(depth - 1)
		}
		return list
	default:
		m := map[string]any{}
		for range r.IntN(3) {
			m[r.text()] = r.anything(depth - 1)
		}
		return m
	}
}

// fill sets v to a random value.
func (r random) fill(v reflect.Value, depth int) {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = time.UnixMicro(r.Int64N(4e15) - 2e15).UTC()
		if r.IntN(2) == 0 {
			*p = p.In(time.FixedZone("", (r.IntN(1439)-719)*60))
		}
		return
	case *Level:
		*p = []Level{"low", "high"}[r.IntN(2)]
		return
	case *Priority:
		*p = Priority(1 + r.IntN(3))
		return
	case *Color:
		*p = Color(r.IntN(2))
		return
	case *Vector:
		*p = Vector{r.Float64(), r.Float64()}
		return
	case *netip.Addr:
		*p = netip.AddrFrom4([4]byte{byte(r.IntN(256)), 2, 3, 4})
		return
	case *big.Int:
		p.SetUint64(r.Uint64())
		p.Lsh(p, uint(r.IntN(200)))
		return
	case *any:
		if value := r.anything(3); value != nil {
			v.Set(reflect.ValueOf(value))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(r.text())
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint, reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	case reflect.Float32:
		v.SetFloat(float64(float32(r.NormFloat64())))
	case reflect.Float64:
		v.SetFloat(r.float())
	case reflect.Pointer:
		if depth > 0 && r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			r.fill(v.Elem(), depth-1)
		}
	case reflect.Slice:
		n := 0
		if depth > 0 {
			n = r.IntN(3)
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			r.fill(v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			value := reflect.New(v.Type().Elem()).Elem()
			r.fill(value, depth-1)
			v.SetMapIndex(reflect.ValueOf(r.text()).Convert(v.Type().Key()), value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("enum") != "" {
				v.Field(i).SetString([]string{"one", "two"}[r.IntN(2)])
				continue
			}
			r.fill(v.Field(i), depth)
		}
	}
}

// same compares values as a program sees them: times by instant and offset, floats by bits.
var same = cmp.Options{
	cmp.Comparer(func(a, b time.Time) bool {
		_, x := a.Zone()
		_, y := b.Zone()
		return a.Equal(b) && x == y
	}),
	cmp.Comparer(func(a, b big.Int) bool { return a.Cmp(&b) == 0 }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b Vector) bool { return a == b }),
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
}

// codecs are a program that takes a Node and one that produces a Node.
func codecs(t testing.TB) (in, out *spec.Compiled) {
	t.Helper()
	return echo(t, reflect.TypeFor[Node](), reflect.TypeFor[answer]()), echo(t, reflect.TypeFor[struct{}](), reflect.TypeFor[Node]())
}

func roundTrip(t *testing.T, in, out *spec.Compiled, seed uint64, hostile bool) (sent bool) {
	t.Helper()
	r := random{rand.New(rand.NewPCG(seed, 1)), hostile}
	var before, after Node
	r.fill(reflect.ValueOf(&before).Elem(), 4)
	body, attachments, err := in.Encode(before)
	if err != nil {
		if !hostile || status.CodeOf(err) != status.InvalidArgument || !strings.Contains(err.Error(), "input Node.") {
			t.Fatalf("seed %d: %v", seed, err)
		}
		return false
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		t.Fatalf("seed %d: not JSON: %q", seed, body)
	}
	if _, err := out.Decode(body, attachments, &after); err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, body)
	}
	if diff := cmp.Diff(before, after, same); diff != "" {
		t.Fatalf("seed %d (-before +after):\n%s\n%s", seed, diff, body)
	}
	return true
}

func TestTypedValuesComeBackAsTheyWere(t *testing.T) {
	in, out := codecs(t)
	for seed := range uint64(rounds) {
		roundTrip(t, in, out, seed, false)
	}
}

func TestHostileValuesComeBackAsTheyWereOrAreRefused(t *testing.T) {
	in, out := codecs(t)
	sent := 0
	for seed := range uint64(rounds) {
		if roundTrip(t, in, out, seed, true) {
			sent++
		}
	}
	if sent == 0 || sent == rounds {
		t.Errorf("%d of %d values were sent; some should be, others not", sent, rounds)
	}
}

func FuzzRoundTrip(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, seed%2 == 0)
	}
	in, out := codecs(f)
	f.Fuzz(func(t *testing.T, seed uint64, hostile bool) { roundTrip(t, in, out, seed, hostile) })
}

// FuzzDecode feeds answers of any shape to a typed and to an untyped program: they are
// read or refused.
func FuzzDecode(f *testing.F) {
	in, typed := codecs(f)
	for seed := range uint64(8) {
		r := random{rand.New(rand.NewPCG(seed, 1)), false}
		var n Node
		r.fill(reflect.ValueOf(&n).Elem(), 3)
		body, _, err := in.Encode(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(body))
	}
	untyped := dynamic(f, "-> leaf: Any, ptr: dict[str, Any] | None, list: list[dict[str, int | str | list[bytes]]], opt: datetime | None, zero: Literal[1, 'x'] | None")
	f.Fuzz(func(t *testing.T, body []byte) {
		var n Node
		_, err := typed.Decode(body, [][]byte{{1}}, &n)
		known(t, err)
		var values map[string]any
		_, err = untyped.Decode(body, [][]byte{{1}}, &values)
		known(t, err)
	})
}

func known(t *testing.T, err error) {
	t.Helper()
	if code := status.CodeOf(err); err != nil && code != status.InvalidOutput && code != status.Internal {
		t.Fatalf("code %s: %v", code, err)
	}
}

// typed returns a random type in DSPy's notation and a value of it, as it comes back.
func (r random) typed(depth int) (string, any) {
	n := r.IntN(14)
	if depth <= 0 {
		n = r.IntN(9)
	}
	switch n {
	case 0:
		return "str", r.text()
	case 1:
		return "int", int64(r.Uint64())
	case 2:
		return "float", r.float()
	case 3:
		return "bool", r.IntN(2) == 0
	case 4:
		return "bytes", []byte(r.text())
	case 5:
		return "datetime", time.UnixMicro(r.Int64N(4e15)).UTC()
	case 6:
		return "date", time.UnixMicro(r.Int64N(4e15)).UTC().Format("2006-01-02")
	case 7:
		return "Literal['a', 2, True]", []any{"a", int64(2), true}[r.IntN(3)]
	case 8:
		return "Any", r.anything(2)
	case 9:
		t, v := r.typed(depth - 1)
		return "list[" + t + "]", []any{v}
	case 10:
		t, v := r.typed(depth - 1)
		return "dict[str, " + t + "]", map[string]any{r.text(): v}
	case 11:
		t, _ := r.typed(depth - 1)
		return t + " | None", nil
	case 12:
		t, v := r.typed(depth - 1)
		return t + " | None", v
	default:
		return "int | list[bool | str]", []any{int64(1), []any{true, r.text()}}[r.IntN(2)]
	}
}

func TestValuesByNameComeBackAsTheyWere(t *testing.T) {
	for seed := range uint64(rounds) {
		r := random{rand.New(rand.NewPCG(seed, 2)), false}
		before := map[string]any{}
		var fields []string
		for i := range 1 + r.IntN(4) {
			kind, value := r.typed(3)
			name := "f" + strconv.Itoa(i)
			fields = append(fields, name+": "+kind)
			before[name] = value
		}
		list := strings.Join(fields, ", ")
		body, attachments, err := dynamic(t, list+" -> o").Encode(before)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, list, err)
		}
		var after map[string]any
		if _, err := dynamic(t, "-> "+list).Decode(body, attachments, &after); err != nil {
			t.Fatalf("seed %d: %s: %v\n%s", seed, list, err, body)
		}
		if diff := cmp.Diff(before, after, same); diff != "" {
			t.Fatalf("seed %d: %s (-before +after):\n%s\n%s", seed, list, diff, body)
		}
	}
}
