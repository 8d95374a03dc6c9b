"""The native runner: a compiled forward pass for Llama-like models with LoRA adapters."""
