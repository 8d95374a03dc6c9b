"""Loads every layout of an export with `datasets`, and trains a step on it with TRL's trainers.

TRL is no dependency of Thumbloop, so this runs in an environment of its own:

    python3 -m venv /tmp/trl
    /tmp/trl/bin/pip install -c constraints.txt trl==1.9.0 datasets accelerate
    for form in jsonl parquet; do for layout in records kto preference reward sft triplets; do
        thumbloop feedback export --format $form --layout $layout --out /tmp/layouts/$layout.$form
    done; done
    /tmp/trl/bin/python -m bench.trl_layouts /tmp/layouts

Nothing is downloaded: the model is a random one of 20,000 parameters, its tokenizer of bytes.
Each file needs a few rows; `thumbloop simulate --votes 20` makes enough for kto, sft and triplets.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TRAINERS: dict[str, list[tuple[Any, Any]]] = {
    "kto": [(KTOTrainer, KTOConfig)],
    "preference": [(DPOTrainer, DPOConfig), (RewardTrainer, RewardConfig)],
    "reward": [(RewardTrainer, RewardConfig)],
    "sft": [(SFTTrainer, SFTConfig)],
}
LOADERS = {"jsonl": "json", "parquet": "parquet"}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes with a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({each: i for i, each in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|end|>",  # noqa: S106 - a token of text
        pad_token="<|end|>",  # noqa: S106 - likewise
        chat_template=TEMPLATE,
    )


def save_model(kind: Any, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a tiny model with random weights, which trainers also load as their reference."""
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        num_labels=1,
    )
    kind(config).save_pretrained(folder)


def train_step(trainer: Any, config: Any, rows: Dataset) -> float:
    """Train one step and return its loss."""
    words = tokenizer()
    kind = LlamaForSequenceClassification if trainer is RewardTrainer else LlamaForCausalLM
    with tempfile.TemporaryDirectory() as folder:
        save_model(kind, words, Path(folder) / "model")
        settings = config(
            output_dir=f"{folder}/out",
            max_steps=1,
            per_device_train_batch_size=4,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        )
        running = trainer(
            model=f"{folder}/model", args=settings, train_dataset=rows, processing_class=words
        )
        loss: float = running.train().training_loss
    if not math.isfinite(loss):
        raise ValueError(f"{trainer.__name__}: loss {loss}")
    return loss


def main(folder: Path) -> None:
    """Check every file of a folder."""
    for path in sorted(folder.iterdir()):
        layout, form = path.stem, path.suffix.removeprefix(".")
        rows = load_dataset(LOADERS[form], data_files=str(path), split="train")
        print(json.dumps({"file": path.name, "rows": len(rows), "columns": rows.column_names}))
        for trainer, config in TRAINERS.get(layout, []):
            print(f"  {trainer.__name__}: loss {train_step(trainer, config, rows):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
