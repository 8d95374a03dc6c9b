"""The base model: imported once from its package, or taken from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.base.files import GGUF_SHA256
from models.base.loading import GGUF_FILE, ensure_base, imported_folder, is_ready, load_base
from models.errors import BaseModelError
from models.settings import LearnerSettings, ModelSettings
from models.types import Message

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.real_model
def test_the_packaged_model_is_imported_once_and_answers(shared_data_dir: Path) -> None:
    settings = ModelSettings(data_dir=shared_data_dir, dtype="float32")
    ensure_base(settings, lambda _: None)
    before = (imported_folder(settings) / "model.safetensors").stat().st_mtime_ns
    base = load_base(settings)
    assert (imported_folder(settings) / "model.safetensors").stat().st_mtime_ns == before
    assert base.content_hash == GGUF_SHA256
    ids = torch.tensor([base.encode_chat([Message("user", "What is the capital of France?")])])
    out = base.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=2,
    )
    assert "Paris" in base.tokenizer.decode(out[0, ids.shape[1] :])


def test_nothing_is_ready_in_an_empty_data_folder(tmp_path: Path) -> None:
    assert not is_ready(ModelSettings(data_dir=tmp_path))


def test_a_missing_package_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.base.loading.GGUF_PACKAGE", "no_such_package")
    with pytest.raises(BaseModelError, match="make setup"):
        ensure_base(ModelSettings(data_dir=tmp_path), lambda _: None)


def test_a_broken_package_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "package" / GGUF_FILE
    broken.parent.mkdir()
    broken.write_bytes(b"half a download")
    monkeypatch.setattr("models.base.loading._packaged_gguf", lambda: broken)
    settings = ModelSettings(data_dir=tmp_path / "data")
    with pytest.raises(BaseModelError, match="not the file we know"):
        ensure_base(settings, lambda _: None)
    assert not is_ready(settings)


def test_a_local_folder_is_a_base_and_is_known_by_its_weights(
    settings: LearnerSettings, tiny_folder: Path
) -> None:
    base = load_base(settings)
    assert base.name == str(tiny_folder)
    assert len(base.content_hash) == 64
    assert base.end_ids == {2}
    assert not any(p.requires_grad for p in base.model.parameters())


def test_a_folder_without_a_model_says_what_is_wanted(tmp_path: Path) -> None:
    settings = ModelSettings(data_dir=tmp_path, base_model=str(tmp_path / "nothing-here"))
    with pytest.raises(BaseModelError, match="THUMBLOOP_BASE_MODEL"):
        load_base(settings)
