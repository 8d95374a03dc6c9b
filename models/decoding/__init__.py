"""The decoding engine: scheduler, KV slots, sampler, adapters of several versions in one batch."""
