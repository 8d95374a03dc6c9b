"""What executes a forward pass: the interface between the engine and a model's arithmetic."""

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
    """New tokens of one row, for one forward pass.

    Attributes:
        slot: Where the row's keys and values are.
        start: The position of the first id; the slot holds every position before it.
        ids: They go to positions ``start ..`` of the slot.
        version: Whose adapter the row wants; None is the base.
        draw: How to draw the token after the last id; None where it is not wanted, because the
            chunk does not end its prompt.
    """

    slot: int
    start: int
    ids: Sequence[int]
    version: str | None
    draw: Draw | None


class Runner(Protocol):
    """Runs one base model, with any number of adapters, over rows in slots of KV memory.

    Attributes:
        threads: Threads of the next step; may be set from any thread.
        torch_threads: torch threads that the thread which calls ``run`` should have.
    """

    threads: int

    @property
    def torch_threads(self) -> int: ...  # noqa: D102 - among the attributes

    @property
    def cache(self) -> SlotCache:
        """The KV memory; its shape says how many rows fit, and how long they may be."""
        ...

    def prepare(self, adapter: Adapter) -> Any:
        """Check an adapter and bring it into the runner's own form; not on the decode thread.

        Raises:
            AdapterError: It does not fit the model.
        """
        ...

    def run(self, segments: Sequence[Segment], adapters: Mapping[str, Any]) -> list[Token | None]:
        """Write the segments' tokens to their slots and draw the tokens that come next.

        Args:
            segments: The decoding rows in slots 0 .. n-1, one id each, then prompt chunks in slots
                n, n+1, …; only the last chunk may leave its prompt unfinished.
            adapters: What ``prepare`` returned, for at least the versions that are named.

        Returns:
            One entry a segment: the token drawn, None where ``draw`` is None.
        """
        ...
