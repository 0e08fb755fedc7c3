"""The Python half of dspex: runs DSPy programs for a Go host."""
