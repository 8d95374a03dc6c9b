"""One pass over the same votes by TRL's KTO, in TRL's environment; it makes no second epoch."""

from __future__ import annotations

import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer

from bench.train.given import choose_fp32_products, given, timed


def main() -> None:
    """Run the arm; its form is ``fp32`` or ``bf16``."""
    asked = given()
    products = choose_fp32_products()
    votes, size = asked["votes"], asked["minibatch"]
    tokenizer = AutoTokenizer.from_pretrained(asked["base"])
    model = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
    data = Dataset.from_list(
        [
            {
                "prompt": tokenizer.decode(vote["prompt"]),
                "completion": tokenizer.decode(vote["reply"]),
                "label": vote["reward"] > 0,
            }
            for vote in votes
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        config = KTOConfig(
            output_dir=folder,
            per_device_train_batch_size=size,
            num_train_epochs=1,
            learning_rate=4e-4,
            bf16=asked["form"] == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            gradient_checkpointing=False,
        )
        trainer = KTOTrainer(
            model=model,
            args=config,
            processing_class=tokenizer,
            train_dataset=data,
            peft_config=LoraConfig(
                r=asked["rank"],
                lora_alpha=asked["alpha"],
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        with timed() as figures:
            figures["fp32_products"] = products
            trainer.train()


if __name__ == "__main__":
    main()
