package lm

// Usage counts the tokens of one or more LM calls. A zero field means that the
// provider reported nothing for it, or zero; [Usage.Get] tells the two apart.
//
// The counters are the provider's own: whether InputTokens includes cached tokens
// and OutputTokens includes reasoning differs from one provider to the next.
type Usage struct {
	InputTokens       int64
	OutputTokens      int64
	TotalTokens       int64
	CacheReadTokens   int64
	CacheWriteTokens  int64
	ReasoningTokens   int64
	InputAudioTokens  int64
	OutputAudioTokens int64

	// zeros has a bit for each counter that was reported to be zero.
	zeros uint8
}

// UsageField names a counter of [Usage].
type UsageField uint8

// The counters.
const (
	UsageInput UsageField = iota
	UsageOutput
	UsageTotal
	UsageCacheRead
	UsageCacheWrite
	UsageReasoning
	UsageInputAudio
	UsageOutputAudio
	usageFields
)

var usageNames = [usageFields]string{ //nolint:gochecknoglobals // a constant table
	"input_tokens", "output_tokens", "total_tokens", "cache_read_tokens",
	"cache_write_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens",
}

func (u *Usage) field(f UsageField) *int64 {
	switch f {
	case UsageInput:
		return &u.InputTokens
	case UsageOutput:
		return &u.OutputTokens
	case UsageTotal:
		return &u.TotalTokens
	case UsageCacheRead:
		return &u.CacheReadTokens
	case UsageCacheWrite:
		return &u.CacheWriteTokens
	case UsageReasoning:
		return &u.ReasoningTokens
	case UsageInputAudio:
		return &u.InputAudioTokens
	default:
		return &u.OutputAudioTokens
	}
}

// Set records that the provider reported n for the counter, also when n is zero.
func (u *Usage) Set(f UsageField, n int64) {
	*u.field(f) = n
	u.zeros &^= 1 << f
	if n == 0 {
		u.zeros |= 1 << f
	}
}

// Get returns a counter and whether the provider reported it.
func (u Usage) Get(f UsageField) (n int64, reported bool) {
	n = *u.field(f)
	return n, n != 0 || u.zeros&(1<<f) != 0
}

// WithTotal returns u with TotalTokens set to the sum of input and output, unless
// the provider reported a total or one of the two is unknown. DSPy does the same.
func (u Usage) WithTotal() Usage {
	in, hasIn := u.Get(UsageInput)
	out, hasOut := u.Get(UsageOutput)
	if _, has := u.Get(UsageTotal); !has && hasIn && hasOut {
		u.Set(UsageTotal, in+out)
	}
	return u
}

// Add returns the sum of u and v, field by field. A counter of the sum is
// reported if it is in u or in v.
func (u Usage) Add(v Usage) Usage {
	for f := range usageFields {
		if n, reported := v.Get(f); reported {
			m, _ := u.Get(f)
			u.Set(f, m+n)
		}
	}
	return u
}

// Equal reports whether u and v say the same.
func (u Usage) Equal(v Usage) bool { return u == v }
