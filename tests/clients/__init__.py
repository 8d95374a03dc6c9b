"""Other people's client libraries against a server of ours: ``make test-clients``."""
