package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/soak"
)

func (a *app) soakCommand() *cobra.Command {
	o := soak.Options{}
	var kinds []string
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Load real workers, let things go wrong, and count what was lost",
		Long: "soak makes calls for a while, from many clients, to a model that answers by itself, and\n" +
			"meanwhile ends, stops and blocks workers, cancels calls and lets the model fail, as --chaos\n" +
			"says. It prints how the calls ended. The exit code is 1 if a call was lost, answered twice\n" +
			"or with another's answer, or if something was left running.",
		Example: "  dspex soak --for 60s --chaos kill,stop,stuck,exit,oversize,cancel,lm-error",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Chaos = kinds
			if err := o.Check(); err != nil {
				return asUsage(err)
			}
			settings, _, err := a.load()
			if err != nil {
				return err
			}
			return a.soak(cmd.Context(), o, settings)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.For, "for", 30*time.Second, "how long calls are made")
	flags.IntVar(&o.Clients, "clients", 32, "how many clients make one call after the other")
	flags.IntVar(&o.Workers, "workers", 2, "how many workers there are")
	flags.IntVar(&o.Slots, "slots", 64, "how many calls one worker runs at once")
	flags.DurationVar(&o.Latency, "lm-latency", 10*time.Millisecond, "how long the model takes to answer")
	flags.StringSliceVar(&kinds, "chaos", nil, "what goes wrong: "+strings.Join(soak.Kinds(), ","))
	flags.Uint64Var(&o.Seed, "seed", 1, "makes the choices repeatable, though not their moments")
	return cmd
}

// errSoak is the failure that a soak's report shows.
var errSoak = errors.New("calls were lost, repeated or crossed, or something was left")

func (a *app) soak(ctx context.Context, o soak.Options, settings dspex.Settings) error {
	report, err := soak.Run(ctx, o, settings, a.logger())
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if a.json {
		err = a.printJSON(report)
	} else {
		a.printSoak(report)
	}
	if err == nil && report.Failed() {
		err = reported{errSoak}
	}
	return err
}

func (a *app) printSoak(r *soak.Report) {
	p := newPage(a.std.out, false)
	p.heading("dspex soak")
	p.linef("%d calls in %.1f s, %.0f a second; the model saw %d questions", r.Requests, r.Seconds,
		float64(r.Requests)/r.Seconds, r.Questions)
	for _, outcome := range slices.Sorted(maps.Keys(r.Outcomes)) {
		p.linef("%-18s %d", outcome, r.Outcomes[outcome])
	}
	p.chapter("What went wrong on purpose")
	for _, kind := range slices.Sorted(maps.Keys(r.Chaos)) {
		p.linef("%-18s %d", kind, r.Chaos[kind])
	}
	p.linef("%d workers started, %d lost, %d did not start; %d calls were run again",
		r.Started, r.WorkersLost, r.StartFailures, r.Reruns)
	p.chapter("Times in milliseconds: p50, p90, p99, most")
	for _, line := range []struct {
		name string
		soak.Spread
	}{{"calls", r.Latency}, {"capacity restored", r.Restored}} {
		p.linef("%-18s %.1f  %.1f  %.1f  %.1f", line.name, line.P50, line.P90, line.P99, line.Max)
	}
	p.chapter("Verdict")
	p.linef("%d lost, %d duplicated, %d crossed, %d leaked", r.Lost, r.Duplicated, r.Crossed, r.Leaked)
	for _, text := range slices.Concat(r.Left, r.Unexpected) {
		p.notef("%s", text)
	}
}
