"""The native runner: one compiled forward pass for Llama-like models, adapters and all."""
