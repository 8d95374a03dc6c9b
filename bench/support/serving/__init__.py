"""The modes of `bench.serving`, one module each, and the options that they share."""
