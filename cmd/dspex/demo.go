package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/lm"
)

// The demo's three programs: Go types in, Go types out.
type (
	note struct {
		Text string `json:"text"`
	}
	person struct {
		Name       string `json:"name"`
		Age        int    `json:"age"`
		Profession string `json:"profession"`
	}

	question struct {
		Question string `json:"question"`
	}
	answer struct {
		Answer string `json:"answer" dspy:"one or two words"`
	}

	sentence struct {
		Sentence string `json:"sentence"`
	}
	topic struct {
		Topic string `json:"topic" enum:"food,sport,weather"`
	}
)

var (
	extract = dspex.Predict[note, person]("Extract the person that the text is about.")

	think = dspex.ChainOfThought[question, answer](
		"Answer the question. Explain your reasoning in a full sentence first.")

	classify = dspex.Predict[sentence, topic]("Which topic is the sentence about?", dspex.WithDemos(
		dspex.Values{"sentence": "We ate pizza.", "topic": "food"},
		dspex.Values{"sentence": "The sun shines.", "topic": "weather"},
		dspex.Values{"sentence": "They play tennis.", "topic": "sport"},
	))
)

// demoSentences returns sentences that a very small model, given the demonstrations above,
// tells apart: the story is about dspex, not about the model.
func demoSentences() []sentence {
	return []sentence{
		{"The soup is hot and tasty."},
		{"It rains all day."},
		{"She won the football match."},
		{"I baked bread with cheese."},
		{"He runs a marathon."},
		{"It is cold and windy."},
		{"Our team scored two goals."},
		{"They ate rice and fish."},
	}
}

const (
	// demoWorkers leaves one to lose.
	demoWorkers = 2
	// demoKillAfter is how many sentences are done when a worker is killed.
	demoKillAfter = 3
)

// demoJSON is what `dspex demo --json` prints.
type demoJSON struct {
	Extraction     demoStep[person]  `json:"extraction"`
	ChainOfThought demoStep[answer]  `json:"chain_of_thought"`
	Classification []demoStep[topic] `json:"classification"`
	Killed         *killJSON         `json:"killed,omitempty"`
	Figures        demoFigures       `json:"figures"`
}

type demoStep[Out any] struct {
	Input     string          `json:"input"`
	Output    Out             `json:"output"`
	Reasoning string          `json:"reasoning,omitempty"`
	Worker    dspex.WorkerRef `json:"worker"`
	Reruns    int             `json:"reruns,omitempty"`
	TookMS    float64         `json:"took_ms"`
}

// killJSON says what happened to the worker that the demo killed.
type killJSON struct {
	Worker     dspex.WorkerRef `json:"worker"`
	Calls      int             `json:"calls"` // that it was executing
	NoticedMS  float64         `json:"noticed_ms"`
	RestoredMS float64         `json:"restored_ms"`
}

type demoFigures struct {
	Backend           string   `json:"backend"`
	Mode              string   `json:"mode,omitempty"`
	ReadyMS           float64  `json:"ready_ms"`
	FirstPredictionMS float64  `json:"first_prediction_ms"`
	TotalMS           float64  `json:"total_ms"`
	Predictions       int      `json:"predictions"`
	Failed            int      `json:"failed"`
	Reruns            int      `json:"reruns"`
	LMCalls           int      `json:"lm_calls"`
	LMTimeMS          float64  `json:"lm_time_ms"`
	Usage             lm.Usage `json:"usage"`
	WorkersStarted    uint64   `json:"workers_started"`
	WorkersLost       uint64   `json:"workers_lost"`
}

func (a *app) demoCommand() *cobra.Command {
	var flags modelFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what dspex does, in under a minute and without a key",
		Long: "demo declares three programs with Go types and runs them on real DSPy in Python workers:\n" +
			"an extraction into a struct, a chain of thought and a classification over a batch, in the\n" +
			"middle of which it kills a worker. The first run sets up Python and needs the network.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, _, err := a.load(flagValue{"demo", "min", strconv.Itoa(demoWorkers)},
				flagValue{"demo", "max", strconv.Itoa(demoWorkers)}, flagValue{"demo", "lazy", "false"})
			if err != nil {
				return err
			}
			display := pyenv.NewDisplay(a.std.err)
			defer display.Close()
			o := opening{settings: settings, progress: display.Show, logger: a.logger()}
			model, err := flags.model(a, o)
			if err != nil {
				return err
			}
			return a.demo(cmd.Context(), o, model, flags.lm)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) demo(ctx context.Context, o opening, model opener, modelName string) (err error) {
	start := time.Now()
	p := newPage(a.std.out, a.json)
	p.heading("dspex demo: DSPy programs declared in Go, run by real DSPy in Python")
	s, err := a.open(ctx, o, model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(withoutCancel(ctx))) }()

	d := &demoRun{page: p, rt: s.rt, start: start}
	stats := s.rt.Stats()
	d.out.Figures.Backend, d.out.Figures.Mode = stats.Backend, stats.Mode
	d.out.Figures.ReadyMS = ms(time.Since(start))
	p.linef("%d workers (%s) and the model %q are ready after %s.", len(stats.Workers), stats.Mode, modelName, took(time.Since(start)))
	for _, chapter := range []func(context.Context) error{d.extraction, d.thought, d.batch} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	d.figures()
	if a.json {
		if err := a.printJSON(d.out); err != nil {
			return err
		}
	}
	if n := d.out.Figures.Failed; n > 0 {
		return reported{fmt.Errorf("%d predictions failed", n)}
	}
	return nil
}

// demoRun is one telling of the story.
type demoRun struct {
	page  *page
	rt    *dspex.Runtime
	start time.Time
	out   demoJSON
}

func (d *demoRun) extraction(ctx context.Context) error {
	in := note{"Maria Lopez is a nurse. She is 34 years old."}
	d.page.chapter("1. An extraction into a Go struct")
	d.page.linef("in   %s", in.Text)
	step, err := demoCall(ctx, d, extract, in, in.Text)
	if err != nil {
		return err
	}
	d.out.Figures.FirstPredictionMS = ms(time.Since(d.start))
	d.out.Extraction = step
	d.page.linef("out  person{Name: %q, Age: %d, Profession: %q}", step.Output.Name, step.Output.Age, step.Output.Profession)
	d.page.notef("%s on worker %s", took(millis(step.TookMS)), step.Worker.ID)
	return nil
}

func (d *demoRun) thought(ctx context.Context) error {
	in := question{"What is the capital of France?"}
	d.page.chapter("2. A chain of thought")
	d.page.linef("in   %s", in.Question)
	step, err := demoCall(ctx, d, think, in, in.Question)
	if err != nil {
		return err
	}
	d.out.ChainOfThought = step
	d.page.linef("why  %s", step.Reasoning)
	d.page.linef("out  answer{Answer: %q}", step.Output.Answer)
	d.page.notef("%s on worker %s", took(millis(step.TookMS)), step.Worker.ID)
	return nil
}

// batch classifies the sentences and kills a worker when some of them are done.
func (d *demoRun) batch(ctx context.Context) error {
	d.page.chapter("3. A classification over a batch, with a worker killed in the middle")
	restored := make(chan error, 1)
	done := 0
	for r := range classify.Batch(ctx, d.rt, demoSentences(), dspex.Concurrency(4)) {
		d.classified(r)
		if done++; done != demoKillAfter {
			continue
		}
		killed, err := d.kill(ctx)
		if err != nil {
			return err
		}
		d.out.Killed = killed
		if killed == nil {
			continue
		}
		// The calls go on while the worker is being replaced.
		go func() {
			since, err := d.until(ctx, func(s dspex.Stats) bool { return usable(s) >= demoWorkers })
			killed.RestoredMS = ms(since)
			restored <- err
		}()
	}
	if d.out.Killed != nil {
		if err := <-restored; err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d *demoRun) classified(r dspex.Result[topic]) {
	text := demoSentences()[r.Index].Sentence
	if r.Err != nil {
		d.out.Figures.Failed++
		d.page.linef("%-8s %s", "failed", text)
		d.page.notef("%v", r.Err)
		return
	}
	step := newStep(d, r.Prediction, text)
	d.out.Classification = append(d.out.Classification, step)
	again := ""
	if step.Reruns > 0 {
		again = "  (its worker was killed; run again on " + step.Worker.ID + ")"
	}
	d.page.linef("%-8s %s%s", step.Output.Topic, text, again)
}

func (d *demoRun) figures() {
	f := &d.out.Figures
	stats := d.rt.Stats()
	f.WorkersStarted, f.WorkersLost = stats.Started, stats.Lost
	f.TotalMS = ms(time.Since(d.start))
	d.page.chapter("What happened")
	d.page.linef("%d predictions, %d failed, in %s; the first after %s", f.Predictions, f.Failed,
		took(millis(f.TotalMS)), took(millis(f.FirstPredictionMS)))
	d.page.linef("%d language model calls, %d tokens in, %d out", f.LMCalls, f.Usage.InputTokens, f.Usage.OutputTokens)
	d.page.linef("%d workers started, %d lost", f.WorkersStarted, f.WorkersLost)
	if k := d.out.Killed; k != nil && f.Failed == 0 {
		d.page.linef("the killed worker had %d calls; it was replaced %s later, and no call failed", k.Calls, took(millis(k.RestoredMS)))
	}
}

// demoCall runs one program once.
func demoCall[In, Out any](ctx context.Context, d *demoRun, program *dspex.Program[In, Out], in In, text string) (demoStep[Out], error) {
	pred, err := program.Run(ctx, d.rt, in)
	if err != nil {
		return demoStep[Out]{}, err
	}
	return newStep(d, pred, text), nil
}

// newStep records a prediction and counts it.
func newStep[Out any](d *demoRun, pred *dspex.Prediction[Out], text string) demoStep[Out] {
	f := &d.out.Figures
	f.Predictions++
	f.Reruns += pred.Reruns
	f.LMCalls += len(pred.Calls)
	f.Usage = f.Usage.Add(pred.Usage)
	for _, c := range pred.Calls {
		f.LMTimeMS += ms(c.Duration)
	}
	return demoStep[Out]{
		Input: text, Output: pred.Output, Reasoning: pred.Reasoning, Worker: pred.Worker,
		Reruns: pred.Reruns, TookMS: ms(pred.Timing.Total),
	}
}
