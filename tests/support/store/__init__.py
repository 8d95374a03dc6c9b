"""Tests' own view of the record: a model of the vote store, and what is done to runs."""
