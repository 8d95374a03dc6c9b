"""The interface between the engine and the forward pass of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.decoding.kv import SlotCache
    from models.decoding.lora import Adapter
    from models.decoding.sampler import Draw
    from models.types import Token


@dataclass(frozen=True, slots=True)
class Segment:
    """The new tokens of one row in one forward pass.

    Attributes:
        slot: The KV cache slot of the row.
        start: The position of the first id; the slot holds every position before it.
        ids: The token ids at positions ``start ..``.
        version: The policy version whose adapter applies; None means the base.
        draw: The sampling parameters of the token after the last id; None where the chunk does not
            end its prompt, so that no token is drawn.
    """

    slot: int
    start: int
    ids: Sequence[int]
    version: str | None
    draw: Draw | None


class Runner(Protocol):
    """Runs one base model, with any number of adapters, over rows in KV cache slots.

    Attributes:
        threads: The threads of the next step; may be set from any thread.
        torch_threads: The number of torch threads to set on the thread that calls ``run``.
    """

    threads: int

    @property
    def torch_threads(self) -> int: ...  # noqa: D102 - among the attributes

    @property
    def cache(self) -> SlotCache:
        """The KV cache; its shape sets how many rows fit and how long each may be."""
        ...

    def prepare(self, adapter: Adapter) -> Any:
        """Check an adapter and convert it to the runner's own format.

        This takes long enough that it must not run on the decode thread.

        Raises:
            AdapterError: It does not fit the model.
        """
        ...

    def run(self, segments: Sequence[Segment], adapters: Mapping[str, Any]) -> list[Token | None]:
        """Write the segments' keys and values to their slots, and draw the next tokens.

        Args:
            segments: The decoding rows in slots 0 .. n-1, one id each, then prompt chunks in slots
                n, n+1, …; only the last chunk may leave its prompt unfinished.
            adapters: The prepared adapters by version, for at least the versions of the segments.

        Returns:
            One entry for each segment: the drawn token, or None where ``draw`` is None.
        """
        ...
