"""The HTTP API, its pages, the operator's command line, and the simulation."""
