"""The frozen base model: its files, its weights, its tokenizer and its chat template."""
