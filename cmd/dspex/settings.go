package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/dspex/dspex"
)

// defaultConfig is read where it exists in the working directory and no --config is given.
const defaultConfig = "dspex.yaml"

// load reads the settings: the file, the environment over it, the flags over both.
// explicit are a subcommand's own flags, as KEY=VALUE behind the flag's name. Whatever is
// wrong with them is a usage error. file is the path that was read, or empty.
func (a *app) load(explicit ...flagValue) (s dspex.Settings, file string, err error) {
	file, err = a.configFile()
	if err != nil {
		return s, "", err
	}
	if file != "" {
		if err := readFile(&s, file); err != nil {
			return s, file, err
		}
	}
	if err := s.ApplyEnv(a.environ); err != nil {
		return s, file, asUsage(err)
	}
	for _, pair := range a.settings {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return s, file, usagef("--set %s has no value: write --set KEY=VALUE", pair)
		}
		explicit = append(explicit, flagValue{"--set", key, value})
	}
	for _, f := range explicit {
		if err := s.Set(f.key, f.value, dspex.Source{Origin: dspex.OriginFlag, Name: f.flag}); err != nil {
			return s, file, asUsage(err)
		}
	}
	return s, file, asUsage(s.Validate())
}

// flagValue is a setting that a flag gives.
type flagValue struct{ flag, key, value string }

// configFile returns the file of settings to read, or empty.
func (a *app) configFile() (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	switch _, err := os.Stat(defaultConfig); {
	case err == nil:
		return defaultConfig, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	default:
		return "", usagef("cannot look at %s: %v", defaultConfig, err)
	}
}

// readFile puts the settings of a YAML file into s. Its keys are those of `dspex config`,
// nested at the dots or written with them.
func readFile(s *dspex.Settings, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return usagef("cannot read the settings: %v", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		// The parser's message goes on with a drawing of the place.
		message, _, _ := strings.Cut(err.Error(), "\n")
		return usagef("%s is not YAML: %s", path, message)
	}
	for i, document := range file.Docs {
		if document.Body == nil {
			continue
		}
		if i > 0 {
			return usagef("%s has several documents; keep one", path)
		}
		if err := apply(s, path, "", document.Body); err != nil {
			return err
		}
	}
	return nil
}

// apply puts the mapping node into s; its keys begin with prefix.
func apply(s *dspex.Settings, path, prefix string, node ast.Node) error {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		switch node.Type() {
		case ast.NullType, ast.CommentType:
			return nil
		}
		return usagef("%s: want settings as \"key: value\" lines", place(path, node))
	}
	for entries := mapping.MapRange(); entries.Next(); {
		key := prefix + entries.Key().String()
		value := entries.Value()
		if _, nested := value.(ast.MapNode); nested {
			if err := apply(s, path, key+".", value); err != nil {
				return err
			}
			continue
		}
		raw, ok, err := plain(value)
		if err != nil {
			return usagef("%s: %s: %v", place(path, value), key, err)
		}
		if !ok {
			continue
		}
		from := dspex.Source{Origin: dspex.OriginFile, Name: path}
		if err := s.Set(key, raw, from); err != nil {
			return usagef("%s: %s", place(path, entries.Key()), asUsage(err))
		}
	}
	return nil
}

// plain returns the text of a scalar, or of a list of scalars joined by commas; ok is
// false for null, which says nothing.
func plain(node ast.Node) (raw string, ok bool, err error) {
	switch n := node.(type) {
	case *ast.NullNode:
		return "", false, nil
	case *ast.SequenceNode:
		items := make([]string, 0, len(n.Values))
		for _, v := range n.Values {
			item, ok, err := plain(v)
			if err != nil {
				return "", false, err
			}
			if _, list := v.(*ast.SequenceNode); list || !ok || strings.Contains(item, ",") {
				return "", false, errors.New("want a list of names")
			}
			items = append(items, item)
		}
		return strings.Join(items, ","), true, nil
	case *ast.StringNode:
		return n.Value, true, nil
	case *ast.LiteralNode:
		return n.Value.Value, true, nil
	case ast.ScalarNode:
		return fmt.Sprint(n.GetValue()), true, nil
	default:
		return "", false, fmt.Errorf("want a plain value, not %s", strings.ToLower(node.Type().YAMLName()))
	}
}

func place(path string, node ast.Node) string {
	if t := node.GetToken(); t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", path, t.Position.Line)
	}
	return path
}
