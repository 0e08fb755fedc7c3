// Package docs_test checks that the documentation says what the code does.
package docs_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
)

func TestFaultsListsExactlyTheFaultTestsOfTheCode(t *testing.T) {
	t.Parallel()
	id := regexp.MustCompile(`^TestFault_([A-G]\d+)_`)
	var listed []string
	for _, row := range table(t, "faults.md", 4) {
		if row[1] == "" || row[3] == "" {
			t.Errorf("%s lacks its promise or how it is kept", row[0])
		}
		for name := range strings.SplitSeq(row[2], ",") {
			name = strings.Trim(strings.TrimSpace(name), "`")
			if m := id.FindStringSubmatch(name); len(m) < 2 || m[1] != row[0] {
				t.Errorf("%q stands beside %s but is no test of it", name, row[0])
			}
			listed = append(listed, name)
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(faultTests(t), listed); diff != "" {
		t.Errorf("tests in the code (-) and in docs/faults.md (+):\n%s", diff)
	}
}

// faultTests returns the names of the module's fault tests.
func faultTests(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "TestFault_") {
				names = append(names, f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestOperationsListsExactlyTheSettingsOfTheCode(t *testing.T) {
	t.Parallel()
	var want, got [][]string
	for _, e := range (dspex.Settings{}).Explain() {
		want = append(want, []string{"`" + e.Key + "`", "`" + e.Env + "`", e.Doc})
	}
	for _, row := range table(t, "operations.md", 4) {
		got = append(got, []string{row[0], row[1], row[3]})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings of the code (-) and in docs/operations.md (+):\n%s", diff)
	}
}

// table returns the cells of the one table of a document that has that many columns,
// without its two head lines.
func table(t *testing.T, file string, columns int) [][]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows [][]string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) == columns {
			rows = append(rows, cells)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 2 {
		t.Fatalf("%s has no table of %d columns", file, columns)
	}
	return rows[2:]
}
