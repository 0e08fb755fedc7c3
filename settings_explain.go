package dspex

// Origin says what kind of place a setting's value came from.
type Origin string

// The origins, from lowest to highest precedence; a flag and code are both explicit.
const (
	OriginDefault     Origin = "default"
	OriginFile        Origin = "file"
	OriginEnvironment Origin = "environment"
	OriginFlag        Origin = "flag"
	OriginCode        Origin = "code"
)

// Source is the place a setting's value came from.
type Source struct {
	// Origin is the kind of place.
	Origin Origin
	// Name is which one: a file's path, a variable's or a flag's name. May be empty.
	Name string
}

// record is what Set remembers of a value.
type record struct {
	source Source
	value  string
}

// Setting is one setting with its effective value.
type Setting struct {
	// Key is its name in files, such as "python.dir".
	Key string `json:"key"`
	// Env is the name of the environment's variable.
	Env string `json:"env"`
	// Value is the effective value, defaults resolved: a string, an int, a bool or a
	// []string; durations are text.
	Value any `json:"value"`
	// Origin is the kind of place that the value came from.
	Origin Origin `json:"origin"`
	// Source is the file, variable or flag that gave it; empty for a default and code.
	Source string `json:"source,omitempty"`
	// Doc is one line about its meaning.
	Doc string `json:"doc"`
}

// Explain lists every setting with its effective value and where it came from. A field
// that code assigned is [OriginCode], whatever had been read into it before.
func (s Settings) Explain() []Setting {
	given := s.settings()
	resolved := s.withDefaults()
	effective := resolved.settings()
	explained := make([]Setting, len(given))
	for i, e := range given {
		source := Source{Origin: OriginDefault}
		was, ok := s.recorded[e.key]
		switch {
		case e.value.zero() && !effective[i].value.zero():
			// Zero asks for the default, whoever wrote it.
		case ok && was.value == e.value.String():
			source = was.source
		case !e.value.zero():
			source = Source{Origin: OriginCode}
		}
		explained[i] = Setting{
			Key: e.key, Env: e.env, Doc: e.doc,
			Value: effective[i].value.get(), Origin: source.Origin, Source: source.Name,
		}
	}
	return explained
}
