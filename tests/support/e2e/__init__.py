"""The whole of Thumbloop, as its users start it."""
