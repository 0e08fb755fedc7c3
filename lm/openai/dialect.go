package openai

// Dialect says how an endpoint differs from OpenAI's.
type Dialect struct {
	// MaxTokensField is the name of the bound of the answer: "max_completion_tokens"
	// or "max_tokens".
	MaxTokensField string
	// DeveloperRole is the role of instructions in the middle of a conversation:
	// "developer" or "system".
	DeveloperRole string
	// TopK is true when the endpoint takes "top_k". Where it is false, a request
	// with it is refused.
	TopK bool
	// PromptCache is true when the endpoint takes "prompt_cache_key" and
	// "prompt_cache_retention". Where it is false, a request with a cache key or
	// long retention is refused.
	PromptCache bool
	// Seed and the other settings have one name everywhere and need no entry here.
}

// OpenAI returns the dialect of OpenAI's own endpoint.
func OpenAI() Dialect {
	return Dialect{MaxTokensField: "max_completion_tokens", DeveloperRole: "developer", PromptCache: true}
}

// Compatible returns the dialect that most other servers speak.
func Compatible() Dialect {
	return Dialect{MaxTokensField: "max_tokens", DeveloperRole: "system", TopK: true}
}
