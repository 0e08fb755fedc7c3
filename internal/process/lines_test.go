package process

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func collect(t testing.TB, pieces ...string) []string {
	t.Helper()
	var got []string
	s := &splitter{emit: func(line []byte) { got = append(got, string(line)) }}
	for _, p := range pieces {
		if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	s.Close()
	return got
}

func TestAStreamIsSplitIntoLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"one line", []string{"a\n"}, []string{"a"}},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"a line in pieces", []string{"a", "b", "c\nd", "\n"}, []string{"abc", "d"}},
		{"a last line without an end", []string{"a\nb"}, []string{"a", "b"}},
		{"Windows line ends", []string{"a\r\nb\r\n"}, []string{"a", "b"}},
		{"the longest line", []string{long + "\n"}, []string{long}},
		{"a line one byte too long", []string{long + "y\nz\n"}, []string{long + "… [cut: the line has 65537 bytes]", "z"}},
		{"a long last line", []string{long, long}, []string{long + "… [cut: the line has 131072 bytes]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, collect(t, c.pieces...)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALongLineDoesNotGrowMemory(t *testing.T) {
	s := &splitter{emit: func([]byte) {}}
	piece := make([]byte, 16<<10)
	for range 10 << 20 / len(piece) {
		_, _ = s.Write(piece)
	}
	if cap(s.line) > 2*maxLine {
		t.Errorf("%d bytes are held", cap(s.line))
	}
	_, _ = s.Write([]byte("\n"))
	if cap(s.line) > maxLine/8 {
		t.Errorf("%d bytes are held after the line has ended", cap(s.line))
	}
}

func TestTheTailKeepsTheLastLinesInOrder(t *testing.T) {
	for _, n := range []int{0, 2, 3, 4, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			tail := newTail(3)
			want := []string{}
			for i := range n {
				tail.add("stdout", fmt.Append(nil, i))
				if i >= n-3 {
					want = append(want, fmt.Sprint(i))
				}
			}
			if diff := cmp.Diff(want, tail.of("")); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheTailTellsTheStreamsApart(t *testing.T) {
	tail := newTail(3)
	for i, stream := range []string{"stderr", "stdout", "stderr", "stdout", "stderr"} {
		tail.add(stream, fmt.Append(nil, i))
	}
	if diff := cmp.Diff([]string{"2", "4"}, tail.of("stderr")); diff != "" {
		t.Errorf("tail (-want +got):\n%s", diff)
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), 2)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		size = max(size%64, 1)
		var pieces []string
		for rest := string(text); rest != ""; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if diff := cmp.Diff(collect(t, string(text)), collect(t, pieces...)); diff != "" {
			t.Errorf("the lines depend on how the stream is cut (-whole +pieces):\n%s", diff)
		}
	})
}
