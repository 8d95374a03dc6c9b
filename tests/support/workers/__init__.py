"""Updates for tests: a learner that computes nothing, and deaths in the middle."""
