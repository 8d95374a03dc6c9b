"""Tiny models, adapters and batches, and the oracle of the PPO maths."""
