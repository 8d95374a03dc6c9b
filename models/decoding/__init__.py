"""Continuous-batching decoding: scheduler, KV cache, sampler, and one adapter per row."""
