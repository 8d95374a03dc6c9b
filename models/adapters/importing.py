"""Checks an adapter's files that were taken from elsewhere, and says where they come from."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from models.adapters.adapting import adapt
from models.adapters.checks import Tensor, check_config, check_state, check_tensors
from models.adapters.folders import check_folder, read_manifest
from models.adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Manifest,
    Origin,
)
from models.errors import AdapterError, ImportRefusedError
from models.types import BASE

if TYPE_CHECKING:
    from pathlib import Path

    from models.adapters.checks import AdapterRequirements

MAX_JSON_BYTES = 4 << 20
MAX_HEADER_BYTES = 4 << 20
"""Most bytes of the header of weights; one of 100 MB would take gigabytes when it is read."""
MAX_STATE_HEADER_BYTES = 32 << 20
"""The same of a learner's state, whose header holds each user's mean."""
_MOST = 1e6
"""Most of a user's sums: what is larger comes from no learner, and drowns every reward."""
_MOST_STEPS = 10**9
_RANDOM_BYTES = 5056
"""Size of the state of torch's generator on CPUs."""
_WORDS = 624
"""Numbers in the state of a Mersenne twister."""


@dataclass(frozen=True, slots=True)
class CheckedAdapter:
    """What a folder of taken files turned out to be.

    Attributes:
        source: The version that it was where it comes from; None where no manifest says.
        parameters: Numbers in the adapter.
        has_state: Whether the learner's state comes along.
    """

    source: str | None
    parameters: int
    has_state: bool


def check_import(folder: Path, wanted: AdapterRequirements) -> CheckedAdapter:
    """Check files that were taken from elsewhere, and adapt those of other trainers.

    Raises:
        ImportRefusedError: They make no adapter for the base that is served here.
    """
    manifest = _check_manifest(folder, wanted) if (folder / MANIFEST_FILE).exists() else None
    config = _read_json(folder / CONFIG_FILE)
    check_config(config, wanted)
    tensors, _ = _read_header(folder / WEIGHTS_FILE, MAX_HEADER_BYTES)
    if manifest is None:
        adapt(folder, config, tensors, wanted)
        tensors, _ = _read_header(folder / WEIGHTS_FILE, MAX_HEADER_BYTES)
    check_tensors(tensors, wanted)
    has_state = (folder / STATE_FILE).exists()
    if has_state:
        _check_state(folder / STATE_FILE, wanted)
    return CheckedAdapter(
        source=manifest.version if manifest else None,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        has_state=has_state,
    )


def origin_of(
    checked: CheckedAdapter, wanted: AdapterRequirements, *, name: str, now: float
) -> Origin:
    """Return what the manifest of an import says; its own figures come from the gate."""
    return Origin(
        parent=BASE,
        run=None,
        batch_hash="",
        fence=0,
        base_model=wanted.base.name,
        base_hash=wanted.base.content_hash,
        created_at=now,
        kind="imported",
        source=checked.source or name,
    )


def move_files(folder: Path, target: Path) -> None:
    """Move what was checked into the folder to be published; the manifest is written anew."""
    for name in (CONFIG_FILE, WEIGHTS_FILE, STATE_FILE):
        if (folder / name).exists():
            (folder / name).replace(target / name)


def _check_manifest(folder: Path, wanted: AdapterRequirements) -> Manifest:
    _bounded(folder / MANIFEST_FILE)
    try:
        manifest = read_manifest(folder)
        check_folder(folder, manifest.version)
    except AdapterError as error:
        raise ImportRefusedError(
            f"Its files are not those of its {MANIFEST_FILE}: get it again, or remove the "
            f"manifest if the files were changed on purpose. ({error})"
        ) from error
    if (folder / STATE_FILE).exists() and STATE_FILE not in manifest.files:
        raise ImportRefusedError(f"Its {STATE_FILE} is not in its {MANIFEST_FILE}: remove it.")
    if manifest.origin.base_hash != wanted.base.content_hash:
        raise ImportRefusedError(
            f"It was made for the base {manifest.origin.base_model} "
            f"({str(manifest.origin.base_hash)[:12]}…), but {wanted.base.name} "
            f"({wanted.base.content_hash[:12]}…) is served here."
        )
    return manifest


def _check_state(path: Path, wanted: AdapterRequirements) -> None:
    """Check that a learner can go on from a state.

    Raises:
        ImportRefusedError: It cannot.
    """
    tensors, metadata = _read_header(path, MAX_STATE_HEADER_BYTES)
    check_state(tensors, wanted)
    try:
        rest = json.loads(metadata["state"])
        sound = (
            type(rest["step"]) is int
            and 0 <= rest["step"] <= _MOST_STEPS
            and all(
                abs(total) <= _MOST and 0 <= count <= _MOST
                for total, count in rest["users"].values()
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        sound = False
    with safe_open(path, framework="np") as file:
        sound = sound and all(_is_sound(name, file.get_tensor(name)) for name in tensors)
    if not sound:
        raise ImportRefusedError(
            f"Its {STATE_FILE} cannot be learned on from: leave it out, and learning starts afresh."
        )


def _is_sound(name: str, values: Any) -> bool:
    """Whether numbers of a state are such as a learner leaves."""
    if name == "random":
        return _is_generator(values.tobytes())
    if name.startswith("exp_avg_sq.") and values.min(initial=0.0) < 0:
        return False  # its root is taken
    return math.isfinite(float(abs(values).max(initial=0.0)))


def _is_generator(raw: bytes) -> bool:
    """Whether torch takes a state of its generator: a Mersenne twister that was seeded."""
    if len(raw) != _RANDOM_BYTES:
        return False
    _, left, seeded, following = struct.unpack_from("<QiiQ", raw)
    return bool(seeded == 1 and 0 < left <= _WORDS and following <= _WORDS)


def _read_header(path: Path, most: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file, without the numbers.

    Raises:
        ImportRefusedError: It is none, or its header has more bytes than ``most``.
    """
    with path.open("rb") as start:
        length = start.read(8)
    if len(length) == 8 and struct.unpack("<Q", length)[0] > most:  # noqa: PLR2004 - as it says
        raise ImportRefusedError(
            f"{path.name} is not a sound safetensors file: its header has more than {most} bytes."
        )
    try:
        with safe_open(path, framework="np") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(name)
                tensors[name] = Tensor(part.get_dtype(), tuple(part.get_shape()))
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ImportRefusedError(f"{path.name} is not a sound safetensors file: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    _bounded(path)
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImportRefusedError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ImportRefusedError(f"{path.name} is not a JSON object.")
    return found


def _bounded(path: Path) -> None:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ImportRefusedError(f"{path.name} is larger than {MAX_JSON_BYTES} bytes: refused.")
