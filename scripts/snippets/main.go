// Command snippets executes what the documentation shows, so that it cannot rot.
//
// In README.md and docs/*.md, a block fenced as "sh" is run, line by line, with the
// module's root as working directory and the dspex command on PATH; a block fenced as
// "go" is a whole program that is compiled and run; one fenced as "go build" is compiled.
// Blocks with any other fence are left alone.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// perSnippet bounds one command; the first that needs Python builds its environment.
const perSnippet = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "snippets:", err)
		os.Exit(1) //nolint:forbidigo // This is main.
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("snippets", flag.ContinueOnError)
	var skip []string
	flags.Func("skip", "a command not to run, for instance because CI has run it; may be repeated", func(s string) error {
		skip = append(skip, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	files, err := documents()
	if err != nil {
		return err
	}
	scratch, err := filepath.Abs(filepath.Join(".tmp", "snippets"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	bin := filepath.Join(scratch, "bin")
	if err := command(ctx, nil, "go", "build", "-o", filepath.Join(bin, "dspex"), "./cmd/dspex"); err != nil {
		return err
	}
	path := "PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")
	ran, failed := 0, 0
	for _, file := range files {
		blocks, err := extract(file)
		if err != nil {
			return err
		}
		for _, b := range blocks {
			did, err := b.execute(ctx, scratch, path, skip)
			ran += did
			if err != nil {
				failed++
				fmt.Fprintf(os.Stderr, "%s:%d: %v\n", b.file, b.line, err)
			}
		}
	}
	fmt.Fprintf(os.Stdout, "%d passed, %d failed\n", ran-failed, failed)
	if failed > 0 {
		return errors.New("the documentation shows what does not work")
	}
	return nil
}

// documents lists the files whose blocks are executed.
func documents() ([]string, error) {
	if _, err := os.Stat("go.mod"); err != nil {
		return nil, errors.New("run it in the module's root")
	}
	docs, err := filepath.Glob("docs/*.md")
	return append([]string{"README.md"}, docs...), err
}

// block is one fenced block of a document.
type block struct {
	file string
	line int // of its first line of text
	info string
	text []string
}

func extract(file string) ([]block, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var (
		blocks []block
		inside *block
		n      int
	)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		n++
		line := lines.Text()
		switch {
		case inside == nil && strings.HasPrefix(line, "```"):
			inside = &block{file: file, line: n + 1, info: strings.TrimSpace(strings.TrimPrefix(line, "```"))}
		case inside != nil && line == "```":
			blocks = append(blocks, *inside)
			inside = nil
		case inside != nil:
			inside.text = append(inside.text, line)
		}
	}
	if inside != nil {
		return nil, fmt.Errorf("%s:%d: the block has no end", file, inside.line)
	}
	return blocks, lines.Err()
}

// execute runs the block and returns how many snippets it held.
func (b block) execute(ctx context.Context, scratch, path string, skip []string) (int, error) {
	switch b.info {
	case "sh":
		return b.shell(ctx, path, skip)
	case "go", "go build":
		return 1, b.program(ctx, scratch)
	default:
		return 0, nil
	}
}

func (b block) shell(ctx context.Context, path string, skip []string) (int, error) {
	script := make([]string, 0, len(b.text))
	ran := 0
lines:
	for _, line := range b.text {
		for _, s := range skip {
			if strings.TrimSpace(line) == s {
				continue lines
			}
		}
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			ran++
		}
		script = append(script, line)
	}
	if ran == 0 {
		return 0, nil
	}
	return ran, command(ctx, []string{path}, "bash", "-euo", "pipefail", "-c", strings.Join(script, "\n"))
}

func (b block) program(ctx context.Context, scratch string) error {
	name := strings.TrimSuffix(filepath.Base(b.file), ".md")
	folder := filepath.Join(scratch, fmt.Sprintf("%s-%d", strings.ToLower(name), b.line))
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	source := strings.Join(b.text, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(source), 0o600); err != nil {
		return err
	}
	binary := filepath.Join(folder, "program")
	if err := command(ctx, nil, "go", "build", "-o", binary, folder); err != nil {
		return err
	}
	if b.info == "go build" {
		return nil
	}
	return command(ctx, nil, binary)
}

// command runs a program and shows what it printed if it failed.
func command(ctx context.Context, env []string, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, perSnippet)
	defer cancel()
	fmt.Fprintln(os.Stdout, "$", name, strings.Join(args, " "))
	var output strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	// An interrupt lets dspex stop its workers; what ignores it is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		_, _ = io.WriteString(os.Stderr, output.String())
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
