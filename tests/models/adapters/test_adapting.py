"""Adapters as other trainers write them become adapters here that compute the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.adapters import CONFIG_FILE, STATE_FILE, WEIGHTS_FILE
from models.adapters.checks import FACTORS, PREFIX
from models.errors import ImportRefusedError
from tests.support.models.adapter_files import LINEARS, import_from, tensors, write_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.adapters import AdapterRequirements, AdapterStore

    Import = Callable[[], Path]

Products = dict[str, np.ndarray]


def products(found: dict[str, np.ndarray], scale: float) -> Products:
    """Return what an adapter adds to each layer's weights."""
    out = {}
    for module in LINEARS:
        a, b = (found.get(f"{PREFIX}{module}{factor}") for factor in FACTORS)
        if a is not None and b is not None:
            out[module] = scale * b.astype(np.float64) @ a.astype(np.float64)
    return out


@pytest.fixture
def imported(store: AdapterStore, peft_folder: Path, wanted: AdapterRequirements) -> Import:
    """Import the folder, and return where it is published."""

    def take() -> Path:
        found = import_from(store, peft_folder, sequence=1, wanted=wanted, now=1.0)
        return store.path(found.version)

    return take


def check(folder: Path, expected: Products) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    found = products(load_file(folder / WEIGHTS_FILE), 4 / 2)
    assert found.keys() == expected.keys()
    for module, values in expected.items():
        assert found[module] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.removeprefix(PREFIX),
        lambda name: name.removeprefix(PREFIX).removeprefix("model."),
        lambda name: name.replace(PREFIX, f"{PREFIX}_orig_mod."),
        lambda name: name.replace("base_model.", "module.base_model."),
        lambda name: name.replace(".layers", "._fsdp_wrapped_module.layers"),
        lambda name: name.removesuffix(".weight"),
    ],
)
def test_names_of_other_trainers_are_those_of_the_same_layers(
    imported: Import, peft_folder: Path, rename: Callable[[str], str]
) -> None:
    named = {rename(name): values for name, values in tensors().items()}
    assert named.keys() != tensors().keys()
    save_file(named, peft_folder / WEIGHTS_FILE)
    check(imported(), products(tensors(), 2.0))


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"target_modules": r".*\\.(q|down)_proj"}, 2.0),
        ({"exclude_modules": ["lm_head"]}, 2.0),
        ({"layers_to_transform": [0]}, 2.0),
        ({"lora_alpha": 16}, 8.0),
        ({"lora_alpha": 3.0}, 1.5),
        ({"use_rslora": True, "lora_alpha": 2 * 2**0.5}, 2.0),
        ({"use_rslora": True, "lora_alpha": 4}, 4 / 2**0.5),
    ],
)
def test_another_scale_is_folded_in_and_the_tensors_say_which_layers(
    imported: Import, rewrite: Callable[..., None], changes: dict[str, Any], scale: float
) -> None:
    rewrite(**changes)
    check(imported(), products(tensors(), scale))


def test_a_smaller_rank_is_padded(
    imported: Import, rewrite: Callable[..., None], peft_folder: Path
) -> None:
    rewrite(r=1, lora_alpha=3)
    save_file(tensors(rank=1), peft_folder / WEIGHTS_FILE)
    check(imported(), products(tensors(rank=1), 3.0))


def test_layers_that_it_lacks_stay_as_the_base_has_them(
    imported: Import, peft_folder: Path
) -> None:
    first, second = LINEARS
    some = {name: values for name, values in tensors().items() if first in name}
    save_file(some, peft_folder / WEIGHTS_FILE)
    expected = products(some, 2.0) | {second: np.zeros(LINEARS[second])}
    check(imported(), expected)


def test_numbers_in_sixteen_bits_are_read_as_they_are(
    imported: Import, rewrite: Callable[..., None], peft_folder: Path
) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    rewrite(lora_alpha=8)
    halves = {n: torch.tensor(v).to(torch.bfloat16) for n, v in tensors().items()}
    save_torch(halves, peft_folder / WEIGHTS_FILE)
    check(imported(), products({n: v.float().numpy() for n, v in halves.items()}, 4.0))


def test_what_fits_already_keeps_its_bytes(imported: Import, peft_folder: Path) -> None:
    before = {n: (peft_folder / n).read_bytes() for n in (CONFIG_FILE, WEIGHTS_FILE)}
    folder = imported()
    assert {n: (folder / n).read_bytes() for n in before} == before


def test_a_state_of_other_tensors_is_left_out(
    imported: Import, rewrite: Callable[..., None], peft_folder: Path
) -> None:
    rewrite(lora_alpha=16)
    write_state(peft_folder)
    assert not (imported() / STATE_FILE).exists()


def test_two_tensors_for_one_layer_are_refused(imported: Import, peft_folder: Path) -> None:
    twice = tensors() | {
        name.replace(".weight", ".default.weight"): values for name, values in tensors().items()
    }
    save_file(twice, peft_folder / WEIGHTS_FILE)
    with pytest.raises(ImportRefusedError, match="which one is meant"):
        imported()


def test_links_are_followed_for_who_may_read_them_anyway(
    store: AdapterStore, peft_folder: Path, wanted: AdapterRequirements, tmp_path: Path
) -> None:
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (cache / name).symlink_to(peft_folder / name)
    with pytest.raises(ImportRefusedError, match="a link"), store.importing(cache, wanted):
        pass
    with store.importing(cache, wanted, follow_links=True) as found:
        assert found.checked.parameters > 0
