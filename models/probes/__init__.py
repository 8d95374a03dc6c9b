"""Measures the figures that the gate checks: a candidate's replies, KL and preferences."""
