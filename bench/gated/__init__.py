"""Makes the honest and the poisoned adapters that `bench.gate` judges."""
