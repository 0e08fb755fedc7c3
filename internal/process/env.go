package process

import (
	"slices"
	"strings"
)

// allowed names the variables of this process that children may see; a trailing * matches
// any rest. It is an allow-list, so that no key or token ever reaches a worker, its dumps
// or its children. Proxy variables are absent because they may carry a password.
func allowed() []string {
	return []string{
		"PATH", "HOME", "TMPDIR", "TZ", "TZDIR", "LANG", "LANGUAGE", "LC_*",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
		"SYSTEMROOT", "TEMP", "TMP", "USERPROFILE",
	}
}

// fixed returns what every Python process gets.
func fixed() []string {
	return []string{
		"PYTHONNOUSERSITE=1", // only the environment that was checked
		"PYTHONUTF8=1",       // the same text whatever the locale
		// One thread: a pool of them per worker would fight for the processors, and would
		// make forking impossible.
		"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "BLIS_NUM_THREADS=1",
		"VECLIB_MAXIMUM_THREADS=1", "NUMEXPR_NUM_THREADS=1", "TOKENIZERS_PARALLELISM=false",
		"LITELLM_LOCAL_MODEL_COST_MAP=true", // never fetch a price list
	}
}

// Environ returns the environment of a child: the allowed variables of host, what every
// Python process gets, then extra, each as NAME=value. The last of a name wins.
func Environ(host []string, extra ...string) []string {
	var env []string
	for _, v := range host {
		if name, _, ok := strings.Cut(v, "="); ok && isAllowed(name) {
			env = append(env, v)
		}
	}
	env = append(env, fixed()...)
	env = append(env, extra...)

	seen := make(map[string]bool, len(env))
	out := make([]string, 0, len(env))
	for _, v := range slices.Backward(env) {
		name, _, ok := strings.Cut(v, "=")
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		out = append(out, v)
	}
	slices.Reverse(out)
	return out
}

func isAllowed(name string) bool {
	return slices.ContainsFunc(allowed(), func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return name == pattern
	})
}
