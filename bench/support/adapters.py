"""Random adapters for benches and tests: published on disk, and entered in the record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from models.adapters import AdapterStore, Manifest, Origin
from models.settings import LearnerSettings
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from feedback.store import Store

NOISE = 0.05
"""Standard deviation of the random adapters' B: enough to change replies, too little to ruin."""


def publish_adapters(
    data_dir: Path, count: int, *, noise: float = NOISE, **options: Any
) -> list[Manifest]:
    """Publish random adapters for the packaged base, or for the one that ``options`` name.

    Args:
        data_dir: The data folder.
        count: How many.
        noise: Standard deviation of their B.
        options: Further settings of the learner, by name.
    """
    import torch  # noqa: PLC0415 - seconds, and only here

    from models.base.loading import load_base  # noqa: PLC0415
    from models.policy.policy import Policy  # noqa: PLC0415

    settings = LearnerSettings(data_dir=data_dir, dtype="float32", **options)
    base = load_base(settings)
    policy = Policy(base, settings)
    store = AdapterStore(settings.adapters_dir)
    manifests = []
    for number in range(1, count + 1):
        policy.reset(number)
        dice = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, weight in policy.master.items():
                if ".lora_B." in name:
                    weight.normal_(std=noise, generator=dice)
        origin = Origin(BASE, None, "", 0, base.name, base.content_hash, time.time())
        manifests.append(store.publish(number, origin, policy.save))
    return manifests


async def register(store: Store, manifests: Sequence[Manifest]) -> None:
    """Enter published adapters in the record, as an operator's import would."""
    for manifest in manifests:
        await store.versions.add(
            manifest.version,
            parent=BASE,
            manifest=manifest.as_dict(),
            state="approved",
            now=time.time(),
        )
