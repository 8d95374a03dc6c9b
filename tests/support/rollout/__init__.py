"""The rollout for tests: random commands, what they must do, and what the audit says of it."""
