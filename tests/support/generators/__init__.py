"""Generators without a model."""
