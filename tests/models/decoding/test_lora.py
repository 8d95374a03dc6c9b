"""Adapters side by side: what is refused, and that a row only feels its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.adapters import CONFIG_FILE, WEIGHTS_FILE
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.lora import BatchedLora, Factors, read_adapter
from models.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.settings import LearnerSettings


@pytest.fixture
def lora() -> BatchedLora:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = torch.nn.Linear(2, 2, bias=False)
            self.head = torch.nn.Linear(2, 5, bias=False)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

    model = Model()
    with torch.no_grad():
        model.proj.weight.copy_(torch.eye(2))
    return BatchedLora(model, {"proj", "head"})


def _pair(value: float) -> dict[str, Factors]:
    return {"proj": Factors(a=torch.tensor([[1.0, 1.0]]), b=torch.tensor([[value], [0.0]]))}


def test_each_row_feels_its_own_adapter_only(lora: BatchedLora) -> None:
    adapters = {"one": _pair(10.0), "two": _pair(100.0)}
    lora.select(["two", None, "one"], adapters)
    lora.assign_rows(["two", None, "one"])
    x = torch.tensor([[[1.0, 2.0]]]).expand(3, 1, 2)
    out = lora._modules["proj"](x)[:, 0].tolist()
    # W = 1; low = x0 + x1 = 3
    assert out == [[301.0, 2.0], [1.0, 2.0], [31.0, 2.0]]
    lora.assign_rows([None])
    assert lora._modules["proj"](x[:1])[0, 0].tolist() == [1.0, 2.0]
    lora.select([None], adapters)
    lora.assign_rows([None])
    assert lora._modules["proj"](x[:1])[0, 0].tolist() == [1.0, 2.0]
    lora.select(["one"], adapters)
    lora.assign_rows(["one"])
    assert lora._modules["proj"](x[:1])[0, 0].tolist() == [31.0, 2.0]


def test_a_version_that_comes_back_with_other_weights_is_not_served_with_the_old_ones(
    lora: BatchedLora,
) -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    for value, expected in ((10.0, 31.0), (100.0, 301.0)):
        lora.select(["one"], {"one": _pair(value)})
        lora.assign_rows(["one"])
        assert lora._modules["proj"](x)[0, 0].tolist() == [expected, 2.0]


def test_the_output_head_is_left_alone(lora: BatchedLora) -> None:
    assert set(lora._modules) == {"proj"}


def test_an_adapter_of_other_layers_or_shapes_is_refused(lora: BatchedLora) -> None:
    with pytest.raises(AdapterError, match="lacks"):
        lora.check({"nowhere": _pair(1.0)["proj"]})
    with pytest.raises(AdapterError, match="shape"):
        lora.check({"proj": Factors(a=torch.ones(1, 3), b=torch.ones(2, 1))})


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"alpha_pattern": {"q_proj": 4}},
        {"rank_pattern": {"q_proj": 4}},
        {"init_lora_weights": "pissa_niter_4"},
    ],
)
def test_what_the_engine_cannot_serve_is_refused(
    make_version: Callable[[int], str], settings: LearnerSettings, change: dict[str, object]
) -> None:
    folder = settings.adapters_dir / make_version(1)
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | change))
    with pytest.raises(AdapterError, match="not a plain LoRA"):
        read_adapter(folder)


def test_numbers_that_are_not_finite_are_refused(
    make_version: Callable[[int], str], settings: LearnerSettings
) -> None:
    folder = settings.adapters_dir / make_version(1)
    tensors = load_file(folder / WEIGHTS_FILE)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, folder / WEIGHTS_FILE)
    with pytest.raises(AdapterError, match="not finite"):
        read_adapter(folder)


def test_a_real_adapter_fits_its_model(
    make_version: Callable[[int], str], settings: LearnerSettings
) -> None:
    folder = settings.adapters_dir / make_version(1)
    adapter = read_adapter(folder)
    assert len(adapter) == 2 * 7  # two layers of seven linear maps each
    model = load_base(settings).model
    BatchedLora(model, [name for name, _ in model.named_modules()]).check(adapter)


def test_a_retired_version_stays_until_its_last_request_ends() -> None:
    bank = AdapterBank()
    bank.add("v", _pair(1.0))
    bank.pin("v")
    bank.pin("v")
    bank.retire("v")
    assert bank.loaded() == {"base"}
    bank.release("v")
    assert "v" in bank.adapters
    assert bank.take_freed() == frozenset()
    bank.release("v")
    assert bank.adapters == {}
    assert [bank.take_freed(), bank.take_freed()] == [{"v"}, frozenset()]


def test_a_retired_version_can_come_back_while_still_in_use() -> None:
    bank = AdapterBank()
    bank.add("v", _pair(1.0))
    bank.pin("v")
    bank.retire("v")
    bank.add("v", _pair(1.0))
    bank.release("v")
    assert bank.loaded() == {"base", "v"}


def test_an_adapter_of_no_layers_is_refused(
    make_version: Callable[[int], str], settings: LearnerSettings
) -> None:
    folder = settings.adapters_dir / make_version(1)
    save_file({}, folder / WEIGHTS_FILE)
    with pytest.raises(AdapterError, match="no LoRA pairs"):
        read_adapter(folder)
