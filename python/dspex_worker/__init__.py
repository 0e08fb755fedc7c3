"""The Python half of dspex: runs DSPy programs for a Go host."""

__version__ = "0.1.0-dev"
