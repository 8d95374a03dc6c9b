"""The base with a trainable adapter: forward and backward passes, and log-probs of replies."""
