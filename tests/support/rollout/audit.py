"""What the audit says the rollout is: a reader of it that knows none of the rules' code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Entry(Protocol):
    """One entry, as the store returns it."""

    @property
    def at(self) -> float: ...
    @property
    def who(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def old(self) -> str: ...
    @property
    def new(self) -> str: ...
    @property
    def figures(self) -> Any: ...


@dataclass
class Told:
    """The rollout and all states, as far as the audit tells them."""

    live: str = "base"
    canary: str | None = None
    fraction: float = 0.0
    confirmed: str | None = None
    live_since: float | None = None
    canary_since: float | None = None
    confirmed_since: float | None = None
    states: dict[str, str] = field(default_factory=dict)

    def read(self, entry: Entry) -> None:
        getattr(self, f"_{entry.action}")(entry)
        for version in entry.figures.get("rolled_back", ()):
            self.states[version] = "rolled_back"
        for version in entry.figures.get("retired", ()):
            self.states[version] = "retired"
        if self.states.get(self.canary or "") != "canary":
            self.canary, self.fraction, self.canary_since = None, 0.0, None

    def _import(self, entry: Entry) -> None:
        self.states[entry.new] = "candidate"

    _commit = _import

    def _approve(self, entry: Entry) -> None:
        self.states[entry.new] = "approved"

    def _reject(self, entry: Entry) -> None:
        self.states[entry.new] = "rejected"

    def _quarantine(self, entry: Entry) -> None:
        if entry.new:
            self.states[entry.new] = "rejected"

    def _activate(self, entry: Entry) -> None:
        self._serve(entry)
        if entry.who != "learner":
            self._believe(entry)

    def _rollback(self, entry: Entry) -> None:
        self._serve(entry)
        self._believe(entry)

    def _promote_canary(self, entry: Entry) -> None:
        assert self.canary == entry.new
        self._serve(entry)
        self._believe(entry)

    def _confirm(self, entry: Entry) -> None:
        assert (self.live, self.confirmed or "base") == (entry.new, entry.old)
        self._believe(entry)

    def _canary(self, entry: Entry) -> None:
        if self.canary != entry.new:
            self.canary_since = entry.at
        self.canary, self.fraction = entry.new, entry.figures["fraction"]
        self.states[entry.new] = "canary"

    def _stop_canary(self, entry: Entry) -> None:
        assert self.canary == entry.old
        self.states[entry.old] = "approved"

    def _reject_canary(self, entry: Entry) -> None:
        assert self.canary == entry.old
        assert entry.figures["rolled_back"] == [entry.old]

    def _kill(self, entry: Entry) -> None:
        self._serve(entry)
        self._believe(entry)
        if self.canary:
            assert entry.figures["canary"] == self.canary
            self.states[self.canary] = "approved"

    def _pause(self, entry: Entry) -> None:
        pass

    _resume = _pause

    def _serve(self, entry: Entry) -> None:
        assert self.live == entry.old
        if entry.old == entry.new:
            return
        self.states |= {entry.old: "retired", entry.new: "live"}
        self.states.pop("base", None)
        self.live, self.live_since = entry.new, entry.at

    def _believe(self, entry: Entry) -> None:
        if self.confirmed != entry.new:
            self.confirmed, self.confirmed_since = entry.new, entry.at
