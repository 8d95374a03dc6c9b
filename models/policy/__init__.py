"""The base with a trainable LoRA adapter: forward and backward passes, log-probs of replies."""
