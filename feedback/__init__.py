"""The record: votes, completions, update runs, versions and the rollout, as Redis holds them."""
