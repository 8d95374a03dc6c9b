"""Measurements: each module here is a command, `python -m bench.NAME` at the checkout's root."""
