"""The HTTP face and the operator's command line."""
