package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/lm"
)

// runJSON is what `dspex run --json` prints.
type runJSON struct {
	Output    outputs         `json:"output"`
	Reasoning *string         `json:"reasoning"` // null for predict
	Usage     lm.Usage        `json:"usage"`
	Calls     []lm.Call       `json:"calls"`
	Worker    dspex.WorkerRef `json:"worker"`
	Timing    timingJSON      `json:"timing"`
}

type timingJSON struct {
	QueueMS float64 `json:"queue_ms"`
	TotalMS float64 `json:"total_ms"`
}

// runFlags are the flags of run.
type runFlags struct {
	modelFlags

	module  string
	adapter string
	input   string
	timeout time.Duration
}

// The modules that --module names.
func modules() []string { return []string{"predict", "cot", "chain_of_thought"} }

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run SIGNATURE [NAME=VALUE…]",
		Short: "Run one program on the inputs given",
		Long: "run executes the program that SIGNATURE declares, such as\n" +
			"  'context: list[str], question -> answer: str, score: float'\n" +
			"on inputs given as NAME=VALUE, or as a JSON object with --input. The value of a str is\n" +
			"taken as it is; any other is JSON, or a bare word. NAME=VALUE wins over --input.",
		Example: "  dspex run 'text -> name: str, age: int' text='Maria Lopez, 34, is a nurse.'\n" +
			"  dspex run --module cot --lm openai/gpt-4o-mini 'question -> answer' question='Why is the sky blue?'",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("the signature is missing: write dspex run 'question -> answer' question=…")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.prepare(a, cmd, args)
			if err != nil {
				return err
			}
			defer p.display.Close()
			return a.run(cmd.Context(), p)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.module, "module", "predict", "`MODULE`: predict, or cot (chain of thought)")
	cmd.Flags().StringVar(&f.adapter, "adapter", "", "prompt `FORMAT`: chat, json or xml (setting adapter)")
	cmd.Flags().StringVar(&f.input, "input", "", "`FILE` with a JSON object of inputs; - is standard input")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "longest time for the call, set-up not counted; 0 is without end")
	return cmd
}

// prepared is a run whose every argument has been looked at.
type prepared struct {
	opening

	signature dspex.Signature
	program   *dspex.Program[dspex.Values, dspex.Values]
	reasons   bool
	inputs    dspex.Values
	model     opener
	timeout   time.Duration
	display   *pyenv.Display
}

// prepare looks at the whole command line before anything is started.
func (f *runFlags) prepare(a *app, cmd *cobra.Command, args []string) (*prepared, error) {
	if !slices.Contains(modules(), f.module) {
		return nil, usagef("unknown module %q%s", f.module, suggest(f.module, modules()))
	}
	if f.timeout < 0 {
		return nil, usagef("--timeout is %s: want zero or more", f.timeout)
	}
	var explicit []flagValue
	if cmd.Flags().Changed("adapter") {
		explicit = append(explicit, flagValue{"--adapter", "adapter", f.adapter})
	}
	settings, _, err := a.load(explicit...)
	if err != nil {
		return nil, err
	}
	signature, err := dspex.ParseSignature(args[0])
	if err != nil {
		return nil, usagef("signature %q: %s", args[0], asUsage(err))
	}
	p := &prepared{signature: signature, timeout: f.timeout, reasons: f.module != "predict"}
	if p.reasons {
		p.program = dspex.ChainOfThought[dspex.Values, dspex.Values]("", dspex.WithSignature(signature))
	} else {
		p.program = dspex.Predict[dspex.Values, dspex.Values]("", dspex.WithSignature(signature))
	}
	if err := p.program.Err(); err != nil {
		return nil, asUsage(err)
	}
	if p.inputs, err = a.readInputs(signature, f.input, args[1:]); err != nil {
		return nil, err
	}
	if err := checkInputs(signature, p.inputs); err != nil {
		return nil, err
	}
	p.display = pyenv.NewDisplay(a.std.err)
	p.opening = opening{settings: settings, progress: p.display.Show, logger: a.logger()}
	p.model, err = f.model(a, p.opening)
	return p, err
}

func (a *app) run(ctx context.Context, p *prepared) (err error) {
	s, err := a.open(ctx, p.opening, p.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(withoutCancel(ctx))) }()
	pred, err := p.program.Run(ctx, s.rt, p.inputs, dspex.WithTimeout(p.timeout))
	if err != nil {
		return err
	}
	out := outputs{signature: p.signature, values: pred.Output}
	if a.json {
		result := runJSON{
			Output: out, Usage: pred.Usage, Calls: pred.Calls, Worker: pred.Worker,
			Timing: timingJSON{ms(pred.Timing.Queue), ms(pred.Timing.Total)},
		}
		if p.reasons {
			result.Reasoning = &pred.Reasoning
		}
		return a.printJSON(result)
	}
	if p.reasons {
		fmt.Fprintf(a.std.out, "reasoning: %s\n", pred.Reasoning)
	}
	if err := out.print(a.std.out); err != nil {
		return err
	}
	if isTerminal(a.std.err) {
		fmt.Fprintf(a.std.err, "(%d calls, %d tokens in, %d out, %s)\n", len(pred.Calls),
			pred.Usage.InputTokens, pred.Usage.OutputTokens, took(pred.Timing.Total))
	}
	return nil
}
