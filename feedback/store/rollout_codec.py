"""How the rollout, a change of it and the audit are stored in Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from feedback.store.codec import HashCodec
from feedback.types import Rollout, RolloutEvent
from models.types import BASE
from models.versions import Snapshot, VersionFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from feedback.types import Audit
    from models.versions import StateChange, Transition, VersionState


_ROLLOUT = HashCodec(Rollout)
_EVENT = HashCodec(RolloutEvent, without={"id"})
_NEW = {"live": BASE, "generation": "0"}
"""The rollout to which no command was ever given."""


def decode_rollout(found: Mapping[str, str]) -> Rollout:
    """Return what the hash ``tl:rollout`` says."""
    return _ROLLOUT.decode({**_NEW, **found})


def decode_snapshot(
    found: Mapping[str, str], *, paused: bool, facts: Iterable[Sequence[str]]
) -> Snapshot:
    """Return what ``rollout_read.lua`` found."""
    history = json.loads(found.get("history", "[]"))
    return Snapshot(decode_rollout(found), tuple(history), decode_facts(facts), paused)


def decode_facts(found: Iterable[Sequence[str]]) -> dict[str, VersionFacts]:
    """Return versions by id, in order, from name, state, parent, run and when it was stopped."""
    return {
        name: VersionFacts(
            cast("VersionState", state), parent, int(run) if run else None, bool(stopped)
        )
        for name, state, parent, run, stopped in found
    }


def encode_change(change: Transition, before: Snapshot, audit: Audit) -> str:
    """Return what ``rollout_write.lua`` is to compare and write, as JSON; '' deletes a field."""
    new = change.rollout
    generation = before.rollout.generation
    encoded = {
        "generation": str(generation),
        "rollout": _rollout_fields(new, change.history) if new.generation != generation else {},
        "moves": [
            {"version": move.version, "old": move.old, "fields": _version_fields(move, audit)}
            for move in change.moves
        ],
        "returns": [
            f"{move.returns} {move.version} was rolled back: {audit.why}"
            for move in change.moves
            if move.returns is not None
        ],
        "retakes": [f"+{each.run} {each.version}" for each in change.retakes],
        "paused_by": audit.who if change.pause else "",
        "was_paused": int(before.paused),
        "event": {
            "at": repr(audit.now),
            "who": audit.who,
            "action": change.action,
            "old": change.old,
            "new": change.new,
            "why": audit.why,
            "figures": json.dumps({**audit.figures, **change.figures}),
        },
    }
    return json.dumps(encoded)


def decode_event(event_id: str, event: Mapping[str, str]) -> RolloutEvent:
    """Return one entry of the audit."""
    return _EVENT.decode(event, id=event_id)


def _rollout_fields(rollout: Rollout, history: Sequence[str]) -> dict[str, str]:
    unset = dict.fromkeys(_ROLLOUT.names, "")
    return {**unset, **_ROLLOUT.encode(rollout), "history": json.dumps(history)}


def _version_fields(move: StateChange, audit: Audit) -> dict[str, str]:
    now = repr(audit.now)
    fields = {"state": move.new, "changed_at": now, "changed_by": audit.who}
    if move.new == "rolled_back":
        fields["reason"] = f"It was rolled back: {audit.why}"
    elif move.old == "rolled_back":
        fields["reason"] = ""
    elif move.old == "candidate":
        fields |= {"figures": json.dumps(audit.figures), "reason": audit.why}
    if (move.old, move.new) == ("canary", "approved"):
        fields["stopped_at"] = now
    elif move.new in {"live", "canary"}:
        fields["stopped_at"] = ""
    return fields
