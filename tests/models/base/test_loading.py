"""The base model: imported once from its package, or taken from a folder."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoTokenizer

from models.base.ends import end_ids, reply_end
from models.base.files import GGUF_SHA256, mending
from models.base.loading import (
    GGUF_FILE,
    ensure_base,
    imported_folder,
    is_ready,
    lacks_end,
    load_base,
)
from models.errors import BaseModelError
from models.settings import LearnerSettings, ModelSettings
from models.types import Message
from service.operating.checks.system import check_base
from service.settings import ServiceSettings

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


def _changed(folder: Path, copy: Path, **config: Any) -> Path:
    """Copy a model, with changes to its configuration; None takes a field out."""
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    found = {**json.loads(path.read_text()), **config}
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
    return copy


BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quantization_config": BITS}, "quantised (bitsandbytes)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised (gptq)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantised (awq)"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "encoder and a"),
        ({"model_type": "mamba", "num_attention_heads": None}, "without attention"),
        ({"model_type": "nothing-known"}, "cannot be loaded"),
    ],
)
def test_a_base_of_another_kind_says_in_one_line_what_to_choose(
    tiny_folder: Path, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    folder = _changed(tiny_folder, tmp_path / "base", **config)
    with pytest.raises(BaseModelError) as caught:
        load_base(ModelSettings(data_dir=tmp_path, base_model=str(folder)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "elete" not in str(caught.value)  # it is the user's own folder


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("*.safetensors", "no weights in safetensors"),
        ("tokenizer*", "no tokenizer"),
        ("config.json", "cannot be loaded"),
    ],
)
def test_a_base_without_some_of_its_files_says_which(
    tiny_folder: Path, tmp_path: Path, missing: str, said: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(BaseModelError) as caught:
        load_base(ModelSettings(data_dir=tmp_path, base_model=str(folder)))
    assert said in str(caught.value)


def test_weights_that_can_run_code_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    (weights,) = folder.glob("*.safetensors")
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="save_pretrained"):
        load_base(ModelSettings(data_dir=tmp_path, base_model=str(folder)))


def test_our_own_import_may_be_deleted(tmp_path: Path) -> None:
    settings = ModelSettings(data_dir=tmp_path)
    assert mending(settings, "x").startswith("Delete x")


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        ("{% for m in messages %}{{ m['content'] }}<|im_end|>\n{% endfor %}", {2}),
        ("{% for m in messages %}{{ m['content'] }} \n<|im_start|>{% endfor %}", {1}),
        ("{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}", set()),
    ],
)
def test_the_end_of_a_turn_is_found_in_the_template(
    tiny_folder: Path, template: str, ends: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template, tokenizer.eos_token = template, None
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    assert end_ids(model, tokenizer) == ends
    assert ("No token ends a reply" in caplog.text) == (not ends)
    assert reply_end(tokenizer, frozenset(ends)) == tuple(ends)


def test_a_reply_that_is_written_down_ends_as_the_template_writes_it(tiny_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.eos_token = "<|endoftext|>"
    assert tokenizer.eos_token_id != 2
    assert reply_end(tokenizer, frozenset({0, 2})) == (2,)


@pytest.mark.parametrize("ends", [True, False])
def test_a_base_whose_replies_nothing_ends_is_found_out(
    tiny_folder: Path,
    tmp_path: Path,
    ends: bool,
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    settings = ModelSettings(data_dir=tmp_path, base_model=str(folder))
    (folder / "generation_config.json").unlink()
    for name, gone in (("config.json", "eos_token_id"), ("tokenizer_config.json", "eos_token")):
        values = json.loads((folder / name).read_text())
        values[gone] = None
        (folder / name).write_text(json.dumps(values))
    if not ends:
        template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        (folder / "chat_template.jinja").write_text(template)
    assert lacks_end(settings) is not ends
    finding = check_base(ServiceSettings(data_dir=tmp_path, base_model=str(folder)))
    assert finding.ok is ends
    assert ("no token ends" in finding.found) is not ends
