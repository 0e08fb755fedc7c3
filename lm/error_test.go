package lm_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dspex/dspex/lm"
)

func TestEveryKindHasATextFormAndOnlyPassingTroubleIsRetryable(t *testing.T) {
	want := map[lm.Kind]struct {
		text  string
		retry bool
	}{
		lm.KindRateLimit:          {"rate_limit", true},
		lm.KindTimeout:            {"timeout", true},
		lm.KindServer:             {"server", true},
		lm.KindTransport:          {"transport", true},
		lm.KindContextLength:      {"context_length", false},
		lm.KindAuth:               {"auth", false},
		lm.KindBilling:            {"billing", false},
		lm.KindInvalidRequest:     {"invalid_request", false},
		lm.KindUnsupportedModel:   {"unsupported_model", false},
		lm.KindUnsupportedFeature: {"unsupported_feature", false},
		lm.KindProvider:           {"provider", false},
		lm.KindNotConfigured:      {"not_configured", false},
		lm.KindUnexpected:         {"unexpected", false},
	}
	for kind, w := range want {
		text, err := kind.MarshalText()
		var back lm.Kind
		if err != nil || string(text) != w.text || kind.String() != w.text || back.UnmarshalText(text) != nil || back != kind {
			t.Errorf("%d: %q, %v, back %v", kind, text, err, back)
		}
		if kind.Retryable() != w.retry {
			t.Errorf("%v: retryable %v", kind, kind.Retryable())
		}
	}
	for _, k := range []lm.Kind{0, lm.KindUnexpected + 1} {
		if _, err := k.MarshalText(); err == nil || k.Retryable() {
			t.Errorf("%v is in the set", k)
		}
	}
	var k lm.Kind
	if k.UnmarshalText([]byte("nonsense")) == nil {
		t.Error("nonsense is in the set")
	}
}

func TestAnErrorIsOneLineWithEverythingThatIsKnown(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("run: %w", &lm.Error{
		Kind: lm.KindRateLimit, Message: "slow\n  down", Provider: "openai", Status: 429, Code: "rl",
		RequestID: "req_1", RetryAfter: 1500 * time.Millisecond, Err: cause,
	})
	const want = "run: lm: openai: rate_limit: slow down (status 429, rl, request req_1, retry after 1.5s)"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if lm.KindOf(err) != lm.KindRateLimit || lm.KindOf(cause) != 0 || !errors.Is(err, cause) {
		t.Error("kind or cause is lost")
	}
	if got := (&lm.Error{Kind: lm.KindTransport, Err: cause}).Error(); got != "lm: transport: cause" {
		t.Errorf("got %s", got)
	}
}

func TestAnErrorSurvivesTheWayThroughAnEvent(t *testing.T) {
	want := &lm.Error{
		Kind: lm.KindRateLimit, Message: "slow", Provider: "p", Code: "rl", RequestID: "r", RetryAfter: 1500 * time.Millisecond,
	}
	if diff := cmp.Diff(want, want.Detail().Err("p"), cmpopts.IgnoreFields(lm.Error{}, "Err")); diff != "" {
		t.Error(diff)
	}
	if got := (&lm.Error{Kind: lm.KindUnexpected, Err: errors.New("x")}).Detail(); got.Code != "provider" || got.Message != "x" {
		t.Errorf("got %+v", got)
	}
	if got := (&lm.ErrorDetail{Code: "lock_timeout"}).Err(""); got.Kind != lm.KindUnexpected || got.Code != "lock_timeout" {
		t.Errorf("got %+v", got)
	}
}

func TestUsageTellsZeroFromUnknown(t *testing.T) {
	var u lm.Usage
	if _, known := u.Get(lm.UsageReasoning); known {
		t.Error("nothing was reported")
	}
	u.Set(lm.UsageReasoning, 0)
	u.Set(lm.UsageInput, 5)
	if n, known := u.Get(lm.UsageReasoning); n != 0 || !known {
		t.Errorf("%d, %v", n, known)
	}
	sum := u.Add(lm.Usage{OutputTokens: 2})
	if _, known := sum.Get(lm.UsageReasoning); !known || sum.InputTokens != 5 || sum.OutputTokens != 2 {
		t.Errorf("got %+v", sum)
	}
	if got := sum.WithTotal().TotalTokens; got != 7 {
		t.Errorf("total %d", got)
	}
	if got := (lm.Usage{InputTokens: 5}).WithTotal(); got.TotalTokens != 0 {
		t.Errorf("an unknown output was counted: %+v", got)
	}
	u.Set(lm.UsageReasoning, 3)
	if want := (lm.Usage{InputTokens: 5, ReasoningTokens: 3}); u != want || !u.Equal(want) {
		t.Errorf("got %+v", u)
	}
}
