package dspex

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
)

// envPrefix begins the name of every variable that is a setting.
const envPrefix = "DSPEX_"

// FromEnv returns the settings that the process's environment gives: one variable per
// key, named DSPEX_ and the key in upper case with "_" for ".", as DSPEX_START_TIMEOUT;
// python.interpreter is DSPEX_PYTHON. An empty variable says nothing. A value that cannot
// be read, and a variable with the prefix that is no setting, are [CodeInvalidArgument]
// and name the variable; variables that Kubernetes injects for a service called dspex,
// such as DSPEX_SERVICE_HOST, are left alone.
func FromEnv() (Settings, error) {
	var s Settings
	err := s.ApplyEnv(os.Environ())
	return s, err
}

// ApplyEnv puts the settings that environ, in the form of [os.Environ], gives over those
// that s has. It reads and refuses what [FromEnv] does.
func (s *Settings) ApplyEnv(environ []string) error {
	keys := make(map[string]string)
	var names []string // without the prefix, which would make any two look alike
	for _, e := range s.settings() {
		keys[e.env] = e.key
		names = append(names, strings.TrimPrefix(e.env, envPrefix))
	}
	// The order of an environment means nothing: sorted, the same one gives the same error.
	environ = slices.Sorted(slices.Values(environ))
	for _, entry := range environ {
		name, raw, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || raw == "" || notSetting(name) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			hint := "known are " + envPrefix + strings.Join(names, ", "+envPrefix)
			if near, ok := nearest.Nearest(strings.TrimPrefix(name, envPrefix), names); ok {
				hint = "did you mean " + envPrefix + near + "?"
			}
			return status.New(status.InvalidArgument, "settings", "unknown variable %s; %s", name, hint)
		}
		if err := s.Set(key, raw, Source{Origin: OriginEnvironment, Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// notSetting reports whether a variable with our prefix belongs to somebody else.
func notSetting(name string) bool {
	switch name {
	case
		// Turns the long forms of this module's own fault tests on.
		"DSPEX_FAULTS",
		// Turns fault injection on in a worker of this module's own tests.
		"DSPEX_WORKER_DEBUG":
		return true
	}
	// Kubernetes describes each service of a namespace to its pods, for one called dspex
	// or dspex-… under our prefix. No setting's name has these endings.
	service := regexp.MustCompile(
		`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
	return service.MatchString(name)
}
