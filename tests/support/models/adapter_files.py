"""Files of adapters for a made-up base of two layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from models.adapters import CONFIG_FILE, STATE_FILE, WEIGHTS_FILE
from models.adapters.checks import FACTORS, PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from models.adapters import AdapterRequirements, AdapterStore, CheckedAdapter, Manifest

BASE_HASH = "b" * 64
LINEARS = {
    "model.layers.0.self_attn.q_proj": (6, 4),
    "model.layers.0.mlp.down_proj": (4, 8),
}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "somebody/tiny",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": ["q_proj", "down_proj"],
    "use_dora": False,
    "modules_to_save": None,
    "megatron_core": "megatron.core",
}


def tensors(rank: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {}
    for module, (rows, columns) in LINEARS.items():
        for factor, shape in zip(FACTORS, ((rank, columns), (rows, rank)), strict=True):
            found[PREFIX + module + factor] = random.random(shape, dtype=np.float32)
    return found


def write_adapter(folder: Path, **changes: Any) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps({**CONFIG, **changes}))
    save_file(tensors(), folder / WEIGHTS_FILE)


def write_state(folder: Path, **changes: Any) -> None:
    kept = {f"exp_avg.{n}": t for n, t in tensors(seed=1).items()}
    kept |= {f"exp_avg_sq.{n}": t for n, t in tensors(seed=2).items()}
    rest = {"step": 8, "users": {"ann": [1.0, 2.0]}}
    save_file({**kept, **changes}, folder / STATE_FILE, {"state": json.dumps(rest)})


def import_from(
    store: AdapterStore,
    source: Path,
    *,
    sequence: int,
    wanted: AdapterRequirements,
    now: float,
) -> Manifest:
    """Check an adapter folder or archive, and publish it."""
    with store.importing(source, wanted) as found:
        return found.publish(sequence, now)


def check_import(store: AdapterStore, source: Path, wanted: AdapterRequirements) -> CheckedAdapter:
    """Check what an import would take, and import nothing."""
    with store.importing(source, wanted) as found:
        return found.checked


def write_base(folder: Path) -> None:
    """Write a base of which only configuration and weights' shapes are real."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"vocab_size": 50, "model_type": "llama"}))
    weights: dict[str, np.ndarray] = {
        f"{name}.weight": np.zeros(shape, np.float32) for name, shape in LINEARS.items()
    }
    weights["model.embed_tokens.weight"] = np.zeros((50, 4), np.float32)
    weights["model.norm.weight"] = np.zeros(4, np.float32)
    save_file(weights, folder / "model.safetensors")
