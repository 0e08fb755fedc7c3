package pyenv

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pipEnv returns the environment that pip runs in: the user's, less what would install elsewhere.
func (s *setup) pipEnv() []string {
	extra := []string{
		"PIP_USER=0", "PIP_REQUIRE_VIRTUALENV=0", "PIP_NO_INPUT=1",
		"PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_ROOT_USER_ACTION=ignore",
	}
	if s.environ.get("PIP_RETRIES") == "" {
		// pip's own five would keep a machine without network waiting for most of a minute.
		extra = append(extra, "PIP_RETRIES=2")
	}
	if s.opts.Offline {
		extra = append(extra, "PIP_NO_INDEX=1")
	}
	return s.environ.forInstaller(extra...)
}

// uvEnv returns the environment that uv runs in: the user's, with what they have told pip about
// where packages come from, which uv does not read.
func (s *setup) uvEnv(ctx context.Context, py *interpreter, t *tools) []string {
	extra := []string{"UV_PYTHON_DOWNLOADS=never", "UV_NO_PROGRESS=1"}
	if s.opts.Offline {
		extra = append(extra, "UV_OFFLINE=1")
	}
	// uv would link an environment's files to those of its cache: what spoils one file then
	// spoils it everywhere, and building again does not heal it.
	if s.environ.get("UV_LINK_MODE") == "" {
		extra = append(extra, "UV_LINK_MODE=copy")
	}
	if s.environ.get("UV_CACHE_DIR") == "" && s.environ.get("XDG_CACHE_HOME") == "" &&
		s.environ.get("HOME") == "" && s.environ.get("LOCALAPPDATA") == "" {
		extra = append(extra, "UV_NO_CACHE=1")
	}
	if !s.uvConfigured() {
		extra = append(extra, s.translate(s.pipConfig(ctx, py, t))...)
	}
	return s.environ.forInstaller(extra...)
}

// uvConfigured reports whether the user has configured uv itself in a file: then that is what
// they want uv to do.
func (s *setup) uvConfigured() bool {
	if s.environ.get("UV_CONFIG_FILE") != "" {
		return true
	}
	files := []string{"/etc/uv/uv.toml"}
	if dir := s.environ.get("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, filepath.Join(dir, "uv", "uv.toml"))
	} else if home := s.environ.get("HOME"); home != "" {
		files = append(files, filepath.Join(home, ".config", "uv", "uv.toml"))
	}
	if dir := s.environ.get("APPDATA"); dir != "" {
		files = append(files, filepath.Join(dir, "uv", "uv.toml"))
	}
	return slices.ContainsFunc(files, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// pipConfig returns pip's settings, by key. pip itself is asked: it alone knows all the places
// that they come from. Where there is no pip there are only its variables.
func (s *setup) pipConfig(ctx context.Context, py *interpreter, t *tools) map[string]string {
	var argv []string
	if t.Pip {
		argv = []string{py.Path, "-I", "-m", "pip"}
	} else {
		for _, name := range []string{"pip3", "pip"} {
			if found := s.environ.lookPaths(name); len(found) > 0 {
				argv = found[:1]
				break
			}
		}
	}
	if argv != nil {
		out, err := run(ctx, command{Path: argv[0], Args: append(argv[1:], "config", "list"), Env: s.environ.forInstaller()})
		if err == nil {
			return parsePipConfig(string(out.Stdout))
		}
	}
	settings := make(map[string]string)
	for _, v := range s.environ.vars {
		if key, value, ok := strings.Cut(v, "="); ok && strings.HasPrefix(key, "PIP_") {
			settings[strings.ToLower(strings.ReplaceAll(key[len("PIP_"):], "_", "-"))] = value
		}
	}
	return settings
}

// parsePipConfig reads the lines of `pip config list`, such as global.index-url='https://…'.
// The environment beats the section of `pip install`, which beats the global one.
func parsePipConfig(text string) map[string]string {
	settings := make(map[string]string)
	for _, section := range []string{"global.", "install.", ":env:."} {
		for line := range strings.Lines(text) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || !strings.HasPrefix(key, section) {
				continue
			}
			if n := len(value); n >= 2 && (value[0] == '\'' || value[0] == '"') && value[n-1] == value[0] {
				value = strings.NewReplacer(`\n`, "\n", `\\`, `\`).Replace(value[1 : n-1])
			}
			settings[strings.TrimPrefix(key, section)] = strings.TrimSpace(value)
		}
	}
	return settings
}

// translate turns pip's settings into uv's variables, except where the user has set those.
func (s *setup) translate(pip map[string]string) []string {
	var out []string
	set := func(name, value string) {
		if value != "" && s.environ.get(name) == "" {
			out = append(out, name+"="+value)
		}
	}
	if s.environ.get("UV_INDEX_URL") == "" {
		set("UV_DEFAULT_INDEX", pip["index-url"])
	}
	if s.environ.get("UV_EXTRA_INDEX_URL") == "" {
		set("UV_INDEX", strings.Join(strings.Fields(pip["extra-index-url"]), " "))
	}
	set("UV_FIND_LINKS", strings.Join(existing(strings.Fields(pip["find-links"])), ","))
	set("UV_INSECURE_HOST", strings.Join(strings.Fields(pip["trusted-host"]), " "))
	set("UV_HTTP_TIMEOUT", pip["timeout"])
	if isTrue(pip["no-index"]) {
		set("UV_NO_INDEX", "1")
	}
	set("SSL_CERT_FILE", pip["cert"])
	set("SSL_CLIENT_CERT", pip["client-cert"])
	if s.environ.get("https_proxy") == "" {
		set("HTTPS_PROXY", pip["proxy"])
	}
	if s.environ.get("http_proxy") == "" {
		set("HTTP_PROXY", pip["proxy"])
	}
	return out
}

// existing drops folders that are not there, which pip forgives and uv does not.
func existing(links []string) []string {
	return slices.DeleteFunc(links, func(link string) bool {
		if strings.Contains(link, "://") {
			return false
		}
		_, err := os.Stat(link)
		return err != nil
	})
}

func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "1", "true", "yes", "on", "y", "t":
		return true
	default:
		return false
	}
}
