package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/local"
	"github.com/dspex/dspex/lm/openai"
	"github.com/dspex/dspex/lm/scripted"
)

// The forms of --lm.
const (
	schemeLocal    = "local"
	schemeOpenAI   = "openai/"
	schemeScripted = "scripted:"

	openAIKey = "OPENAI_API_KEY"
)

// modelFlags choose the language model.
type modelFlags struct {
	lm      string
	baseURL string
}

func (f *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.lm, "lm", schemeLocal,
		"language `MODEL`: local (a small one on this machine), openai/MODEL (needs "+openAIKey+", or --base-url),\n"+
			"or scripted:FILE (answers from a file)")
	cmd.Flags().StringVar(&f.baseURL, "base-url", "", "`URL` of an OpenAI-compatible endpoint for openai/MODEL, such as http://127.0.0.1:11434/v1")
}

// opener makes a model ready. closing releases what it holds; it is not nil when err is.
type opener func(ctx context.Context) (model lm.Model, closing func(context.Context) error, err error)

// opening is what a model may use to start.
type opening struct {
	settings dspex.Settings
	progress func(pyenv.Progress)
	logger   *slog.Logger
}

// model reads the flags. What is wrong with them is a usage error; a missing key and a file
// that cannot be read are failures. Nothing is started.
func (f *modelFlags) model(a *app, o opening) (opener, error) {
	name, isOpenAI := strings.CutPrefix(f.lm, schemeOpenAI)
	path, isScripted := strings.CutPrefix(f.lm, schemeScripted)
	if f.baseURL != "" {
		if !isOpenAI {
			return nil, usagef("--base-url goes with --lm openai/MODEL, not with %q", f.lm)
		}
		u, err := url.Parse(f.baseURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, usagef("--base-url %q is not an http or https URL", f.baseURL)
		}
	}
	switch {
	case f.lm == schemeLocal:
		return openLocal(o), nil
	case isOpenAI && name != "":
		return a.openAI(name, f.baseURL)
	case isScripted && path != "":
		model, err := scripted.File(path)
		if err != nil {
			return nil, err
		}
		return ready(model), nil
	case isOpenAI:
		return nil, usagef("--lm %s lacks the model: write --lm openai/MODEL", f.lm)
	case isScripted:
		return nil, usagef("--lm %s lacks the file: write --lm scripted:FILE", f.lm)
	default:
		scheme := f.lm
		if i := strings.IndexAny(scheme, "/:"); i >= 0 {
			scheme = scheme[:i+1]
		}
		return nil, usagef("unknown model scheme in --lm %q%s", f.lm,
			suggest(scheme, []string{schemeLocal, schemeOpenAI, schemeScripted}))
	}
}

// ready wraps a model that holds nothing.
func ready(model lm.Model) opener {
	return func(context.Context) (lm.Model, func(context.Context) error, error) {
		return model, func(context.Context) error { return nil }, nil
	}
}

func (a *app) openAI(name, baseURL string) (opener, error) {
	key := a.lookup(openAIKey)
	if baseURL == "" {
		baseURL = a.lookup("OPENAI_BASE_URL")
	}
	if key == "" && baseURL == "" {
		return nil, status.New(status.Unavailable, "lm",
			"%s is not set: set it to your key, or give --base-url for an endpoint that needs none", openAIKey)
	}
	model, err := openai.New(openai.Config{
		Model: name, BaseURL: baseURL, APIKey: key, Proxy: http.ProxyFromEnvironment,
		Organization: a.lookup("OPENAI_ORG_ID"), Project: a.lookup("OPENAI_PROJECT_ID"),
	})
	if err != nil {
		return nil, err
	}
	return ready(model), nil
}

func openLocal(o opening) opener {
	return func(ctx context.Context) (lm.Model, func(context.Context) error, error) {
		model, err := local.Open(ctx, local.Config{
			Interpreter: o.settings.Python.Interpreter,
			Dir:         o.settings.Python.Dir,
			Logger:      o.logger,
			Progress:    o.progress,
		})
		if err != nil {
			return nil, nil, err
		}
		return model, model.Close, nil
	}
}

// lookup returns a variable of the environment that the command was given.
func (a *app) lookup(name string) string {
	value := ""
	for _, entry := range a.environ {
		if key, v, ok := strings.Cut(entry, "="); ok && key == name {
			value = v
		}
	}
	return value
}
