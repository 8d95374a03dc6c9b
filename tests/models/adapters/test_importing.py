from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from models.adapters import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    AdapterRequirements,
    AdapterStore,
    Origin,
)
from models.adapters.checks import PREFIX
from models.errors import ImportRefusedError
from tests.support.models.adapter_files import (
    BASE_HASH,
    LINEARS,
    check_import,
    import_from,
    tensors,
    write_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.adapters import Manifest

    Import = Callable[[Path], Manifest]
    Rewrite = Callable[..., None]

Q = PREFIX + next(iter(LINEARS))


@pytest.fixture
def take(store: AdapterStore, wanted: AdapterRequirements) -> Import:
    return lambda source: import_from(store, source, sequence=7, wanted=wanted, now=5.0)


@pytest.fixture
def refused(
    store: AdapterStore, wanted: AdapterRequirements, tmp_path: Path
) -> Callable[[Path, str], None]:
    """Check that an import is refused with a reason, and leaves nothing behind."""

    def check(source: Path, reason: str) -> None:
        with pytest.raises(ImportRefusedError, match=reason):
            import_from(store, source, sequence=7, wanted=wanted, now=5.0)
        root = tmp_path / "adapters"
        assert not root.exists() or list(root.iterdir()) == []

    return check


def test_a_plain_peft_folder_becomes_a_version(
    take: Import, store: AdapterStore, peft_folder: Path
) -> None:
    manifest = take(peft_folder)
    assert manifest.version.startswith("v000007-")
    assert manifest.origin == Origin(
        "base", None, "", 0, "tiny", BASE_HASH, 5.0, kind="imported", source="somebodys"
    )
    folder = store.fetch(manifest.version)
    assert {p.name for p in folder.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (folder / name).read_bytes() == (peft_folder / name).read_bytes()


def test_the_source_stays_as_it_was(take: Import, peft_folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in peft_folder.iterdir()}
    take(peft_folder)
    assert {p.name: p.read_bytes() for p in peft_folder.iterdir()} == before


def test_a_check_imports_nothing(
    store: AdapterStore, wanted: AdapterRequirements, peft_folder: Path
) -> None:
    checked = check_import(store, peft_folder, wanted)
    assert (checked.source, checked.has_state) == (None, False)
    assert checked.parameters == 2 * (4 + 6) + 2 * (8 + 4)
    assert store.published() == []


def test_an_import_needs_no_torch(peft_folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from models.adapters import AdapterStore, AdapterRequirements
from models.base.files import BaseFacts
facts = BaseFacts("tiny", "b" * 64, {LINEARS!r})
wanted = AdapterRequirements(facts, rank=2, alpha=4, max_bytes=1 << 20)
store = AdapterStore(Path({str(tmp_path / "elsewhere")!r}))
with store.importing(Path({str(peft_folder)!r}), wanted) as found:
    found.publish(1, 0.0)
sys.exit("torch" in sys.modules or "peft" in sys.modules or "transformers" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_learners_state_comes_along(take: Import, store: AdapterStore, peft_folder: Path) -> None:
    write_state(peft_folder)
    manifest = take(peft_folder)
    kept = store.fetch(manifest.version) / STATE_FILE
    assert kept.read_bytes() == (peft_folder / STATE_FILE).read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA', not 'LORA'"),
        ({"use_dora": True}, "use_dora is set"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is set"),
        ({"init_lora_weights": "pissa"}, "changes the base"),
        ({"use_something_new": 1}, "use_something_new may change"),
        ({"task_type": "SEQ_CLS"}, "only CAUSAL_LM"),
        ({"task_type": []}, "only CAUSAL_LM"),
        ({"r": 2.0}, "rank is 2.0"),
        ({"r": 0}, "rank is 0"),
        ({"r": None}, "rank is None"),
        ({"lora_alpha": "4"}, "alpha '4'"),
        ({"lora_alpha": 0}, "alpha 0"),
        ({"r": 4}, "rank is 4, but adapters here have rank 2"),
    ],
)
def test_an_option_that_is_not_served_is_refused(
    refused: Callable[[Path, str], None],
    rewrite: Rewrite,
    peft_folder: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    rewrite(**changes)
    refused(peft_folder, reason)


def test_a_header_that_would_fill_the_memory_is_refused_unread(
    refused: Callable[[Path, str], None], peft_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = struct.pack("<Q", 1008) + b"{}" + b" " * 1006
    (peft_folder / WEIGHTS_FILE).write_bytes(header)
    monkeypatch.setattr("models.adapters.importing.MAX_HEADER_BYTES", 1000)
    monkeypatch.setattr("models.adapters.importing.safe_open", None)
    refused(peft_folder, "header has more than")


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "mlp.down_proj", "other"]])
def test_every_spelling_of_the_same_layers_is_taken(
    take: Import, rewrite: Rewrite, peft_folder: Path, targets: Any
) -> None:
    rewrite(target_modules=targets, init_lora_weights=True, exclude_modules=None)
    take(peft_folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({f"{Q}.lora_A.weight": np.zeros((3, 4), "f4")}, r"shape \[3, 4\], but \[2, 4\] fits tiny"),
        ({f"{Q}.lora_B.weight": np.zeros((6, 3), "f4")}, "another base model or rank"),
        ({f"{Q}.lora_A.weight": np.zeros((2, 4), "i4")}, "stored as I32"),
        ({f"{Q}.lora_A.weight": np.zeros((2, 4), "f8")}, "stored as F64"),
        ({f"{Q}.lora_A.weight": None}, "It lacks .*lora_A"),
        ({f"{Q}.lora_magnitude_vector": np.zeros(6, "f4")}, "belong to no linear layer of tiny"),
        ({"base_model.model.lm_head.lora_A.weight": np.zeros((2, 4), "f4")}, "no linear layer"),
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, change: dict[str, Any], reason: str
) -> None:
    changed = {n: t for n, t in {**tensors(), **change}.items() if t is not None}
    save_file(changed, peft_folder / WEIGHTS_FILE)
    refused(peft_folder, reason)


def _with_header(length: int, header: bytes) -> bytes:
    return struct.pack("<Q", length) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        _with_header(1 << 60, b"{}"),
        _with_header(2, b"[]"),
        _with_header(60, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     '),
        b"\x80\x04\x95 a pickle",
    ],
)
def test_weights_that_are_no_safetensors_are_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, content: bytes
) -> None:
    (peft_folder / WEIGHTS_FILE).write_bytes(content)
    refused(peft_folder, "not a sound safetensors")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ("\x00", "not JSON"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, content: str, reason: str
) -> None:
    (peft_folder / CONFIG_FILE).write_text(content)
    refused(peft_folder, reason)


def test_a_pickle_alone_is_refused_and_never_opened(
    refused: Callable[[Path, str], None], peft_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any) -> None:
        pytest.fail("The network was asked.")

    monkeypatch.setattr("socket.socket.connect", connect)
    (peft_folder / WEIGHTS_FILE).unlink()
    pickled = peft_folder / "adapter_model.bin"
    pickled.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    pickled.chmod(0)
    try:
        refused(peft_folder, "a pickle, which can run code")
    finally:
        pickled.chmod(0o600)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(
    refused: Callable[[Path, str], None], peft_folder: Path, name: str
) -> None:
    (peft_folder / name).unlink()
    refused(peft_folder, f"holds no {name}")


def test_a_link_out_of_the_folder_is_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (peft_folder / CONFIG_FILE).unlink()
    (peft_folder / CONFIG_FILE).symlink_to(secret)
    refused(peft_folder, "is a link")


def test_a_folder_over_the_limit_is_refused(
    refused: Callable[[Path, str], None], peft_folder: Path
) -> None:
    (peft_folder / WEIGHTS_FILE).write_bytes(bytes(2 << 20))
    refused(peft_folder, "larger than 1048576 bytes")


def test_what_is_no_folder_and_no_file_is_refused(
    refused: Callable[[Path, str], None], tmp_path: Path
) -> None:
    refused(tmp_path / "nothing", "neither a folder nor a file")


@pytest.fixture
def exported(take: Import, store: AdapterStore, peft_folder: Path, tmp_path: Path) -> Path:
    """A folder that another Thumbloop exported, learner's state and manifest included."""
    write_state(peft_folder)
    version = take(peft_folder).version
    store.export(version, tmp_path / "exported")
    store.remove(version)
    return tmp_path / "exported"


def test_an_exported_version_keeps_its_content_and_is_named_as_its_source(
    take: Import, exported: Path
) -> None:
    before = json.loads((exported / MANIFEST_FILE).read_text())
    manifest = take(exported)
    assert manifest.version == before["version"]
    assert manifest.files == before["files"]
    assert manifest.origin.source == before["version"]


def test_an_adapter_of_another_base_is_refused(
    refused: Callable[[Path, str], None], exported: Path
) -> None:
    _change_manifest(exported, base_hash="c" * 64, base_model="other")
    refused(exported, r"made for the base other \(cccccccccccc…\), but tiny \(bbbbbbbbbbbb…\)")


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE, STATE_FILE])
def test_files_unlike_their_manifest_are_refused(
    refused: Callable[[Path, str], None], exported: Path, name: str
) -> None:
    with (exported / name).open("ab") as file:
        file.write(b" ")
    refused(exported, "not those of its manifest")


@pytest.mark.parametrize(
    "changes",
    [{"version": "v1"}, {"files": {}}, {"files": {"../x": "0"}}, {"parent": None, "x": 1}],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    refused: Callable[[Path, str], None], exported: Path, changes: dict[str, Any]
) -> None:
    _change_manifest(exported, **changes)
    refused(exported, "not those of its manifest")


def test_a_name_that_is_no_version_id_is_refused(
    refused: Callable[[Path, str], None], exported: Path
) -> None:
    """It would be shown to people as where the adapter comes from."""
    version = json.loads((exported / MANIFEST_FILE).read_text())["version"]
    _change_manifest(exported, version="\x1b[2Jxxxx" + version[8:])
    refused(exported, "is not a version id")


def test_a_state_that_the_manifest_does_not_know_is_refused(
    refused: Callable[[Path, str], None], exported: Path
) -> None:
    manifest = json.loads((exported / MANIFEST_FILE).read_text())
    del manifest["files"][STATE_FILE]
    _change_manifest(exported, files=manifest["files"])
    refused(exported, "not in its manifest")


def _change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {f"exp_avg.{Q}.lora_A.weight": np.zeros((2, 5), "f4")},
        {"exp_avg.other": np.zeros(2, "f4")},
        {"somethng": np.zeros(2, "f4")},
        {f"exp_avg.{Q}.lora_A.weight": np.zeros((2, 4), "f8")},
        {f"exp_avg.{Q}.lora_A.weight": np.full((2, 4), np.nan, "f4")},
        {f"exp_avg_sq.{Q}.lora_A.weight": np.full((2, 4), -1e-9, "f4")},
        {"random": np.zeros(7, "u1")},
        {"random": np.zeros(5056, "f4")},
        {"random": np.zeros(5056, "u1")},
    ],
)
def test_a_state_that_cannot_be_learned_on_from_is_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, changes: dict[str, Any]
) -> None:
    write_state(peft_folder, **changes)
    refused(peft_folder, "learner")


@pytest.mark.parametrize(
    "state",
    [
        None,
        "{",
        "[]",
        '{"step": -1, "users": {}}',
        '{"step": 1.5, "users": {}}',
        '{"step": 1, "users": {"ann": [1]}}',
        '{"step": "x", "users": {}}',
        '{"step": 1' + "0" * 400 + ', "users": {}}',
        '{"step": 1, "users": {"ann": [0.0, -4.0]}}',
        '{"step": 1, "users": {"ann": [1e300, 1.0]}}',
        '{"step": 1, "users": {"ann": [NaN, 1.0]}}',
    ],
)
def test_a_state_whose_figures_make_no_sense_is_refused(
    refused: Callable[[Path, str], None], peft_folder: Path, state: str | None
) -> None:
    metadata = {"state": state} if state is not None else None
    save_file({"random": np.zeros(5056, "u1")}, peft_folder / STATE_FILE, metadata)
    refused(peft_folder, "cannot be learned on from")


def test_a_critics_state_comes_along(take: Import, peft_folder: Path) -> None:
    write_state(
        peft_folder,
        **{
            "critic.value.weight": np.zeros(4, "f4"),
            "exp_avg.value.weight": np.zeros(4, "f4"),
            "random": torch.Generator().manual_seed(3).get_state().numpy(),
        },
    )
    assert STATE_FILE in take(peft_folder).files
