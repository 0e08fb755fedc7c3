package wire

import "fmt"

// logQueue is how many LOG frames wait for a slow Options.Log before more are dropped.
const logQueue = 1024

type logLine struct {
	stream  uint64
	payload []byte
}

// queueLog hands a LOG frame over without waiting.
func (c *Conn) queueLog(line logLine) {
	select {
	case c.log <- line:
	default:
		c.dropped.Add(1)
	}
}

// deliverLogs is the goroutine that calls Options.Log.
func (c *Conn) deliverLogs() {
	for {
		select {
		case line := <-c.log:
			c.deliverLog(line)
			continue
		default:
		}
		select {
		case line := <-c.log:
			c.deliverLog(line)
		case <-c.readDone:
			if len(c.log) == 0 {
				return
			}
		}
	}
}

func (c *Conn) deliverLog(line logLine) {
	c.o.Log(line.stream, line.payload)
	if n := c.dropped.Swap(0); n > 0 {
		text := `{"level":"warning","logger":"dspex.wire","message":"%d log lines were dropped"}`
		c.o.Log(0, fmt.Appendf(nil, text, n))
	}
}
