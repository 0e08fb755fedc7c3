package dspex

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheEnvironmentSetsEveryKindOfValue(t *testing.T) {
	t.Parallel()
	var got Settings
	err := got.ApplyEnv([]string{
		"PATH=/bin", "DSPEX_BACKEND=process", "DSPEX_MIN=2", "DSPEX_LAZY=true",
		"DSPEX_START_TIMEOUT=1m30s", "DSPEX_PYTHON=/usr/bin/python3", "DSPEX_PYTHON_PATH=/venv/bin/python",
		"DSPEX_PYTHON_DIR=/var/cache/dspex", "DSPEX_PYTHON_PRELOAD=acme.rag, numpy,", "DSPEX_QUEUE=",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Backend: "process", Min: 2, Lazy: true, StartTimeout: 90 * time.Second,
		Python: PythonSettings{
			Interpreter: "/usr/bin/python3", Path: "/venv/bin/python", Dir: "/var/cache/dspex",
			Preload: []string{"acme.rag", "numpy"},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Settings{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestFromEnvReadsTheProcessEnvironment(t *testing.T) {
	t.Setenv("DSPEX_SLOTS", "7")
	s, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if s.Slots != 7 {
		t.Errorf("Slots = %d, want 7", s.Slots)
	}
}

func TestAVariableThatCannotBeReadIsRefusedByName(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"DSPEX_MIN=many":                `DSPEX_MIN is "many": want a whole number`,
		"DSPEX_MIN=-1":                  `DSPEX_MIN is "-1": want zero or more`,
		"DSPEX_LAZY=perhaps":            `DSPEX_LAZY is "perhaps": want true or false`,
		"DSPEX_IDLE_TIMEOUT=60":         `DSPEX_IDLE_TIMEOUT is "60": want a duration with its unit`,
		"DSPEX_ADAPTER=yaml":            `DSPEX_ADAPTER is "yaml": no such value; known are chat, json, xml`,
		"DSPEX_SLOT=3":                  `unknown variable DSPEX_SLOT; did you mean DSPEX_SLOTS?`,
		"DSPEX_PYTHON_INTERPRETER=/bin": `unknown variable DSPEX_PYTHON_INTERPRETER`,
		"DSPEX_COLOUR=red":              "unknown variable DSPEX_COLOUR; known are DSPEX_BACKEND, DSPEX_MIN",
	}
	for entry, want := range tests {
		t.Run(entry, func(t *testing.T) {
			t.Parallel()
			var s Settings
			wantInvalid(t, s.ApplyEnv([]string{entry}), want)
		})
	}
}

func TestFault_E5_KubernetesServiceVariablesAreNotSettings(t *testing.T) {
	t.Parallel()
	var s Settings
	err := s.ApplyEnv([]string{
		"DSPEX_SERVICE_HOST=10.0.0.1", "DSPEX_SERVICE_PORT=80", "DSPEX_SERVICE_PORT_HTTP=80",
		"DSPEX_PORT=tcp://10.0.0.1:80", "DSPEX_PORT_80_TCP=tcp://10.0.0.1:80", "DSPEX_PORT_80_TCP_PROTO=tcp",
		"DSPEX_PORT_80_TCP_PORT=80", "DSPEX_PORT_80_TCP_ADDR=10.0.0.1", "DSPEX_PORT_53_UDP_ADDR=10.0.0.1",
		"DSPEX_QUEUE_SERVICE_HOST=10.0.0.1", "DSPEX_QUEUE_PORT=tcp://10.0.0.1:80",
		"DSPEX_QUEUE_PORT_80_TCP_ADDR=10.0.0.1", "DSPEX_FAULTS=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Explain() {
		if e.Origin != OriginDefault {
			t.Errorf("%s comes from %s", e.Key, e.Origin)
		}
		if notSetting(e.Env) {
			t.Errorf("%s looks like a variable of Kubernetes: it could never be set", e.Env)
		}
	}
	wantInvalid(t, s.ApplyEnv([]string{"DSPEX_PORTS=1"}), "unknown variable DSPEX_PORTS")
}
