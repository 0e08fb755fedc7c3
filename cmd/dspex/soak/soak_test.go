package soak_test

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/soak"
	"github.com/dspex/dspex/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Under chaos every call ends in a result or in a typed error, none is lost, answered
// twice or with another's answer, and those that were not themselves hit succeed.
func TestFault_G3_ChaosLosesNothing(t *testing.T) {
	o := soak.Options{
		For: time.Second, Clients: 16, Workers: 2, Slots: 32, Latency: 5 * time.Millisecond, Seed: 1,
		Chaos: []string{soak.Kill, soak.Exit, soak.Cancel, soak.LMError},
	}
	if os.Getenv("DSPEX_FAULTS") == "full" {
		o.For, o.Clients, o.Chaos = time.Minute, 64, soak.Kinds()
	}
	r, err := soak.Run(t.Context(), o, dspex.Settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Failed() || len(r.Unexpected) > 0 {
		t.Errorf("%d lost, %d duplicated, %d crossed, %d leaked %v, unexpected %q",
			r.Lost, r.Duplicated, r.Crossed, r.Leaked, r.Left, r.Unexpected)
	}
	// A call that was on two workers that died is not tried on a third.
	hit := r.Outcomes[status.Canceled.String()] + r.Outcomes[status.LM.String()] + r.Outcomes[status.WorkerLost.String()]
	if r.Outcomes["ok"]+hit != r.Requests {
		t.Errorf("of %d calls some ended in another way: %v", r.Requests, r.Outcomes)
	}
	if r.Outcomes["ok"] == 0 || r.WorkersLost == 0 {
		t.Errorf("nothing was tried: %v, %d workers lost", r.Outcomes, r.WorkersLost)
	}
}

func TestOptionsThatCannotBeUsedAreRefused(t *testing.T) {
	good := soak.Options{For: time.Second, Clients: 1, Workers: 1, Slots: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*soak.Options){
		"no time":          func(o *soak.Options) { o.For = 0 },
		"no clients":       func(o *soak.Options) { o.Clients = 0 },
		"no workers":       func(o *soak.Options) { o.Workers = -1 },
		"no slots":         func(o *soak.Options) { o.Slots = 0 },
		"negative latency": func(o *soak.Options) { o.Latency = -1 },
		"unknown chaos":    func(o *soak.Options) { o.Chaos = []string{"kil"} },
	} {
		o := good
		change(&o)
		if err := o.Check(); status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("%s: %v, want invalid_argument", name, err)
		}
	}
}
