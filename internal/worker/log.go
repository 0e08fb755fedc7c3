package worker

import (
	"context"
	"encoding/json"
	"log/slog"
)

// logLine is the payload of a LOG frame.
type logLine struct {
	Level   string `json:"level"`
	Message string `json:"message"`
	Logger  string `json:"logger"`
}

// log passes a LOG frame on.
func (w *Worker) log(stream uint64, payload []byte) {
	var line logLine
	if err := json.Unmarshal(payload, &line); err != nil {
		line = logLine{Level: "warning", Message: string(payload)}
	}
	level := slog.LevelInfo
	switch line.Level {
	case "debug":
		level = slog.LevelDebug
	case "warning":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	attrs := make([]slog.Attr, 0, 2)
	if line.Logger != "" {
		attrs = append(attrs, slog.String("logger", line.Logger))
	}
	if stream != 0 {
		attrs = append(attrs, slog.Uint64("stream", stream))
	}
	w.o.Logger.LogAttrs(context.Background(), level, line.Message, attrs...)
}

// panicked reports a panic in code that served the worker.
func (w *Worker) panicked(method string, value any, stack []byte) {
	w.o.Logger.Error("worker: a handler panicked", "method", method, "panic", value, "stack", string(stack))
}
