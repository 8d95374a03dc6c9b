"""Measures what the gate judges: replies, distances and preferences of a candidate."""
