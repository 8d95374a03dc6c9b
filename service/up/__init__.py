"""``thumbloop up``: every process of Thumbloop on one machine."""
