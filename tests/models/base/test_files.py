from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from models.base.files import base_facts
from models.errors import BaseModelError
from models.settings import ModelSettings
from tests.support.models.adapter_files import LINEARS, write_base

if TYPE_CHECKING:
    from pathlib import Path


def test_the_layers_of_a_base_are_read_from_its_headers(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    facts = base_facts(ModelSettings(data_dir=tmp_path, base_model=str(tmp_path / "base")))
    assert facts.linears == LINEARS
    assert facts.name == str(tmp_path / "base")
    assert len(facts.content_hash) == 64


def test_a_base_that_is_not_imported_yet_says_how(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="thumbloop models import"):
        base_facts(ModelSettings(data_dir=tmp_path))


def test_a_hubs_base_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("The network was asked."))
    with pytest.raises(BaseModelError, match="not downloaded yet"):
        base_facts(ModelSettings(data_dir=tmp_path, base_model="nobody/never-was"))


@pytest.mark.parametrize("broken", ["config", "weights", "no weights"])
def test_a_broken_base_is_told(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "base"
    write_base(folder)
    if broken == "config":
        (folder / "config.json").write_text("{}")
    elif broken == "weights":
        (folder / "model.safetensors").write_bytes(b"x")
    else:
        (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="cannot be read"):
        base_facts(ModelSettings(data_dir=tmp_path, base_model=str(folder)))


def test_what_the_learner_adapts_is_what_an_import_must_adapt(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """The layers read from files are those that PEFT finds in the loaded model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    )
    found = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
        for name, _ in adapted.named_parameters()
        if name.endswith("lora_A.default.weight")
    }
    facts = base_facts(ModelSettings(data_dir=tmp_path, base_model=str(tiny_folder)))
    assert set(facts.linears) == found
    assert json.loads((tiny_folder / "config.json").read_text())["tie_word_embeddings"]
