"""A small model of a disk at a power cut: what was not yet synced may be there, torn, or not.

``Recorder`` notes what a program does below a folder. ``crashes`` gives every disk that a power
cut after some of it may leave behind, under the weakest promises that file systems make (Pillai et
al., "All file systems are not created equal", OSDI 2014):

- a file's content is sure once the file was synced; before, it is absent, cut short, zeros or whole
- a name is sure once its folder was synced; before, each change of a name happened or did not,
  whatever came before or after it
- a rename is atomic: the old name or the new one, never both, never neither
"""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pytest

Disk = dict[str, bytes | None]
"""What lies below the folder: the content of each file, None for a folder."""


@dataclass(frozen=True)
class Name:
    """A folder's entry that came to be; ``old`` is where it was before a rename."""

    folder: int
    name: str
    node: int
    old: tuple[int, str] | None = None


@dataclass(frozen=True)
class Write:
    node: int
    content: bytes


@dataclass(frozen=True)
class Sync:
    node: int


Step = Name | Write | Sync


@dataclass
class Recorder:
    """Notes steps below ``top``, which itself is on the disk for certain. Linux only.

    Attributes:
        settled: How many of the steps tell what was there, synced, before.
    """

    top: Path
    steps: list[Step] = field(default_factory=list)
    settled: int = 0
    _names: dict[Path, int] = field(default_factory=dict)
    _contents: dict[int, bytes] = field(default_factory=dict)
    _count: Iterator[int] = field(default_factory=itertools.count)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Take what is there for synced, and record from now on."""
        self._names[self.top] = next(self._count)
        self._look()
        folders = [node for path, node in self._names.items() if path.is_dir()]
        files = [node for path, node in self._names.items() if path.is_file()]
        self.steps += [Sync(node) for node in (*files, *folders)]
        self.settled = len(self.steps)
        fsync, replace = os.fsync, os.replace

        def synced(handle: int) -> None:
            self._look()
            fsync(handle)
            self.steps.append(Sync(self._names[Path(f"/proc/self/fd/{handle}").readlink()]))

        def renamed(old: Path, new: Path) -> None:
            self._look()
            replace(old, new)
            self._rename(Path(old), Path(new))

        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "replace", renamed)

    def stop(self) -> None:
        self._look()

    def _look(self) -> None:
        """Note what was made and written since the last step, parents first."""
        for path in sorted(self.top.rglob("*")):
            if path not in self._names:
                self._names[path] = next(self._count)
                self.steps.append(Name(self._names[path.parent], path.name, self._names[path]))
            node = self._names[path]
            if path.is_file() and self._contents.get(node) != path.read_bytes():
                self._contents[node] = path.read_bytes()
                self.steps.append(Write(node, self._contents[node]))

    def _rename(self, old: Path, new: Path) -> None:
        moved = {p: n for p, n in self._names.items() if p == old or old in p.parents}
        for path, node in moved.items():
            del self._names[path]
            self._names[new / path.relative_to(old)] = node
        where = (self._names[old.parent], old.name)
        self.steps.append(Name(self._names[new.parent], new.name, moved[old], where))


def crashes(
    steps: Sequence[Step], most: int, *, settled: int = 0, seed: int = 0
) -> Iterator[tuple[int, Disk]]:
    """Yield the disks that a power cut after each number of steps may leave, without repeats.

    Where a moment allows more than ``most`` disks, so many are drawn.
    """
    chance = random.Random(seed)
    for count in range(settled, len(steps) + 1):
        done = steps[:count]
        choices = [_outcomes(done, at) for at in range(count)]
        seen = set()
        for chosen in _drawn(choices, most, chance):
            disk = _disk(done, chosen)
            key = tuple(sorted(disk.items(), key=lambda item: item[0]))
            if key not in seen:
                seen.add(key)
                yield count, disk


def _outcomes(done: Sequence[Step], at: int) -> tuple[Any, ...]:
    """Return what may have become of one step: for a name, whether; for a write, its content."""
    step, later = done[at], done[at + 1 :]
    if isinstance(step, Write):
        if Sync(step.node) in later:
            return (step.content,)
        half = step.content[: len(step.content) // 2]
        return (None, half, bytes(len(step.content)), step.content)
    if isinstance(step, Name):
        folders = {step.folder} | ({step.old[0]} if step.old else set())
        return (True,) if any(Sync(each) in later for each in folders) else (False, True)
    return (True,)


def _drawn(
    choices: Sequence[tuple[Any, ...]], most: int, chance: random.Random
) -> Iterable[tuple[Any, ...]]:
    total = 1
    for each in choices:
        total *= len(each)
    if total <= most:
        return itertools.product(*choices)
    return (tuple(chance.choice(each) for each in choices) for _ in range(most))


def _disk(done: Sequence[Step], chosen: Sequence[Any]) -> Disk:
    """Return the disk on which these outcomes of the steps are what is left."""
    names: dict[int, dict[str, int]] = {0: {}}
    contents: dict[int, bytes] = {}
    for step, outcome in zip(done, chosen, strict=True):
        if isinstance(step, Write) and outcome is not None:
            contents[step.node] = outcome
        elif isinstance(step, Name) and outcome:
            if step.old:
                names.get(step.old[0], {}).pop(step.old[1], None)
            names.setdefault(step.folder, {})[step.name] = step.node
    files = {step.node for step in done if isinstance(step, Write)}
    disk: Disk = {}

    def walk(node: int, prefix: str) -> None:
        for name, child in names.get(node, {}).items():
            is_file = child in files
            disk[prefix + name] = contents.get(child, b"") if is_file else None
            if not is_file:
                walk(child, f"{prefix}{name}/")

    walk(0, "")
    return disk


def lay_out(disk: Disk, top: Path) -> None:
    """Make a folder look like a disk."""
    top.mkdir()
    for name, content in sorted(disk.items()):
        if content is None:
            (top / name).mkdir()
        else:
            (top / name).write_bytes(content)
