package scripted

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dspex/dspex/lm"
)

// File returns a model whose answers are in a file. The file is a JSON array, or it
// holds one JSON value per line; each value is
//
//   - a string: the answer to the next request that no rule fits, in order, or
//   - {"match": text, "answer": value}: a rule, for every request whose last message
//     contains the text. An answer that is no string is given as JSON.
//
// Rules are tried first. A file that cannot be read, or that holds anything else, is an
// *lm.Error of lm.KindNotConfigured that names the file and the line.
func File(path string) (*Model, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &lm.Error{
			Kind: lm.KindNotConfigured, Provider: provider, Err: err,
			Message: fmt.Sprintf("cannot read the script: %v", err),
		}
	}
	answer, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	return New(Config{Answer: answer}), nil
}

func parse(path string, data []byte) (Answerer, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	script := script{path: path, data: data}
	var err error
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		err = script.array()
	} else {
		err = script.lines()
	}
	switch {
	case err != nil:
		return nil, err
	case len(script.steps)+len(script.rules) == 0:
		return nil, script.errorf(0, "it holds no answers")
	case len(script.rules) == 0:
		return Steps(script.steps...), nil
	case len(script.steps) == 0:
		return Rules(script.rules...), nil
	}
	rules, steps := script.rules, Steps(script.steps...)
	return func(ctx context.Context, req *lm.Request) (*lm.Response, error) {
		if step, ok := find(rules, req); ok {
			return step.answer()
		}
		return steps(ctx, req)
	}, nil
}

// script is a file that is being read.
type script struct {
	path  string
	data  []byte
	rules []Rule
	steps []Step
}

func (s *script) errorf(offset int64, format string, args ...any) *lm.Error {
	line := 1 + bytes.Count(s.data[:min(int(offset), len(s.data))], []byte("\n"))
	return lm.Errorf(lm.KindNotConfigured, provider, "script %s, line %d: %s", s.path, line, fmt.Sprintf(format, args...))
}

func (s *script) array() error {
	d := json.NewDecoder(bytes.NewReader(s.data))
	if _, err := d.Token(); err != nil {
		return s.errorf(d.InputOffset(), "%v", err)
	}
	for d.More() {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return s.errorf(position(d, err), "%v", err)
		}
		if err := s.add(d.InputOffset(), value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return s.errorf(int64(len(s.data)), "the array has no end")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return s.errorf(d.InputOffset(), "text after the array")
	}
	return nil
}

func position(d *json.Decoder, err error) int64 {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return syntax.Offset
	}
	return d.InputOffset()
}

func (s *script) lines() error {
	var offset int64
	for line := range bytes.Lines(s.data) {
		if value := bytes.TrimSpace(line); len(value) > 0 {
			if err := s.add(offset, value); err != nil {
				return err
			}
		}
		offset += int64(len(line))
	}
	return nil
}

// add takes one value of the script; offset is where it stands.
func (s *script) add(offset int64, value json.RawMessage) error {
	if value[0] == '"' {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return s.errorf(offset, "%v", err)
		}
		s.steps = append(s.steps, Step{Text: text})
		return nil
	}
	var rule struct {
		Match  *string         `json:"match"`
		Answer json.RawMessage `json:"answer"`
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	err := d.Decode(&rule)
	switch {
	case err != nil:
		return s.errorf(offset, `%v; each value is a string or {"match": text, "answer": value}`, err)
	case d.More():
		return s.errorf(offset, "more than one value")
	case rule.Match == nil || rule.Answer == nil:
		return s.errorf(offset, `a rule needs "match" and "answer"`)
	}
	text := string(rule.Answer)
	if rule.Answer[0] == '"' {
		if err := json.Unmarshal(rule.Answer, &text); err != nil {
			return s.errorf(offset, "%v", err)
		}
	}
	s.rules = append(s.rules, Rule{Match: *rule.Match, Step: Step{Text: text}})
	return nil
}
