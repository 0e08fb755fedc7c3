package openai_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/openai"
)

func TestTheKeyIsSentAndShownNowhere(t *testing.T) {
	var authorization, organization string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		authorization, organization = r.Header.Get("Authorization"), r.Header.Get("Openai-Organization")+r.Header.Get("X-Mine")
		ok(completion)(w, r)
	})
	config := openai.Config{Model: "m", BaseURL: s.URL + "/v1", APIKey: canary, Organization: "org", Header: http.Header{"X-Mine": {"1"}}}
	m := s.model(t, func(c *openai.Config) { *c = config })
	if _, err := m.Complete(t.Context(), hello()); err != nil {
		t.Fatal(err)
	}
	if authorization != "Bearer "+canary || organization != "org1" {
		t.Errorf("sent %q, %q", authorization, organization)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q", config, config, config, config, &config)
	if strings.Contains(out.String(), canary) {
		t.Errorf("the key is in %s", out.String())
	}
	if strings.Contains(string(<-s.bodies), canary) {
		t.Error("the key is in the body")
	}
}

func TestAServerWithoutKeysGetsNone(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", canary) // Must not be read.
	var got []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Values("Authorization")
		ok(completion)(w, r)
	})
	if _, err := s.model(t, func(c *openai.Config) { c.APIKey = "" }).Complete(t.Context(), hello()); err != nil || got != nil {
		t.Errorf("sent %v, %v", got, err)
	}
}

func TestSettingsThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		config openai.Config
		says   string
	}{
		"no key":       {openai.Config{Model: "m"}, "set OPENAI_API_KEY"},
		"no scheme":    {openai.Config{APIKey: canary, BaseURL: "localhost:8080/v1"}, "http://"},
		"no host":      {openai.Config{APIKey: canary, BaseURL: "https:///v1"}, "host"},
		"other scheme": {openai.Config{APIKey: canary, BaseURL: "ftp://e.com?key=" + canary}, `"ftp://e.com"`},
		"unreadable":   {openai.Config{APIKey: canary, BaseURL: "http://" + canary + "@%zz"}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := openai.New(tc.config)
			if m != nil || lm.KindOf(err) != lm.KindNotConfigured || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, %v", m, err)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the key is in %v", err)
			}
		})
	}
}

func TestFromEnvFillsWhatIsEmpty(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "k")
	t.Setenv("OPENAI_BASE_URL", "http://env")
	got := openai.FromEnv(openai.Config{BaseURL: "http://mine"})
	if got.APIKey != "k" || got.BaseURL != "http://mine" || got.Proxy == nil {
		t.Errorf("got %+v", got)
	}
}

func TestCapabilitiesFollowTheModelsName(t *testing.T) {
	modern := lm.Capabilities{ResponseSchema: true, JSONObject: true, FunctionCalling: true, Streaming: true}
	reasons, old := modern, modern
	reasons.Reasoning, old.ResponseSchema = true, false
	for model, want := range map[string]lm.Capabilities{
		"gpt-4o-mini": modern, "gpt-4.1": modern, "ft:gpt-4o-mini:x": modern, "o3": reasons, "gpt-5.5": reasons,
		"gpt-3.5-turbo": old, "gpt-4": old, "gpt-4-turbo": old,
	} {
		m, err := openai.New(openai.Config{APIKey: canary})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, lm.CapabilitiesOf(m, model)); diff != "" {
			t.Errorf("%s: %s", model, diff)
		}
	}
	other := openai.Config{BaseURL: "http://localhost:1/v1"}
	m, err := openai.New(other)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Capabilities("gpt-4o"); got.ResponseSchema || !got.JSONObject {
		t.Errorf("got %+v", got)
	}
	other.Capabilities = &reasons
	if m, err = openai.New(other); err != nil || !cmp.Equal(m.Capabilities(""), reasons) {
		t.Errorf("got %+v, %v", m.Capabilities(""), err)
	}
}
