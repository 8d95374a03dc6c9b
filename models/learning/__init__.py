"""The arithmetic of an update: packed forward and backward passes, and log-probs of replies."""
