package wire

func (c *Conn) onResult(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	c.mu.Unlock()
	if s == nil {
		return err
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	sizes, body, err := ParseResult(payload, h.Flags)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.settled:
		return nil
	case s.intake != nil:
		return faultf(FaultMalformed, "RESULT came twice on stream %d", h.Stream)
	case len(sizes) == 0:
		s.finish(Message{Body: body}, nil)
		s.settle()
		return nil
	}
	total := sum(sizes)
	if total > c.o.MaxAttachments {
		tooLong := attachmentsTooLong(total, c.o.MaxAttachments)
		s.finish(Message{}, tooLong)
		s.cancelLocked(tooLong)
	}
	if s.finished || s.abandoned { // nobody waits: what follows is dropped like any late frame
		s.settle()
		return nil
	}
	s.body, s.intake = body, newIntake(sizes)
	switch {
	case s.intake.complete():
		c.deliverResultLocked(s, s.intake)
	case s.intake.spills():
		c.spill(s.id, s.intake)
	}
	return nil
}

// deliverResultLocked hands a result over whose attachments are all in.
func (c *Conn) deliverResultLocked(s *Stream, arrived *intake) {
	s.intake = nil
	s.finish(Message{Body: s.body, Attachments: arrived.store.parts(arrived.sizes)}, nil)
	s.settle()
}

func (c *Conn) onError(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	c.mu.Unlock()
	if s == nil {
		return err
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.finish(Message{}, &RemoteError{Payload: payload})
	s.settle()
	return nil
}

// onAnswerChunk handles a chunk that belongs to the answer of a call of ours.
func (c *Conn) onAnswerChunk(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	if s == nil {
		c.mu.Unlock()
		return err
	}
	arriving, ok := s.intake, s.in.arrived(int(h.Length))
	c.mu.Unlock()
	if h.attachments() {
		if arriving == nil {
			return faultf(FaultMalformed, "CHUNK came on stream %d, which announced no attachments", h.Stream)
		}
		return c.onAttachment(h, arriving, ok)
	}
	switch {
	case !ok:
		return noCredit(h)
	case arriving != nil:
		return faultf(FaultMalformed, "CHUNK came on stream %d after its RESULT", h.Stream)
	}
	item, err := c.d.Payload()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.discard || s.finished {
		c.consumedLocked(s.id, &s.in, len(item), s.settled)
		return nil
	}
	s.items = append(s.items, item)
	if s.arrived != nil {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}
	return nil
}
