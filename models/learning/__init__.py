"""One update: a batch of votes in, an adapter and a report out."""
