"""How the rollout, a change of it and the audit are spelled in Redis, and read from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from feedback.types import Rollout, RolloutEvent
from models.types import BASE
from models.versions import Snapshot, VersionFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from feedback.types import Audit
    from models.versions import StateChange, Transition, VersionState


def decode_rollout(found: Mapping[str, str]) -> Rollout:
    """Return what the hash ``tl:rollout`` says, also where an older Thumbloop wrote it."""
    live = found.get("live", BASE)
    return Rollout(
        live=live,
        generation=int(found.get("generation", 0)),
        previous=found.get("previous") or (None if live == BASE else BASE),
        confirmed=found.get("confirmed") or None,
        canary=found.get("canary") or None,
        fraction=float(found.get("fraction", 0)),
        live_since=_time(found.get("live_since")),
        canary_since=_time(found.get("canary_since")),
        confirmed_since=_time(found.get("confirmed_since")),
    )


def decode_snapshot(
    found: Mapping[str, str], *, paused: bool, walked: Sequence[str], facts: Iterable[Sequence[str]]
) -> Snapshot:
    """Return what ``rollout_read.lua`` found; ``walked`` is the history of an older record."""
    history = json.loads(found["history"]) if "history" in found else walked
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
    return RolloutEvent(
        id=event_id,
        at=float(event["at"]),
        who=event["who"],
        action=event["action"],
        old=event["old"],
        new=event["new"],
        why=event["why"],
        figures=json.loads(event["figures"]),
    )


def _rollout_fields(rollout: Rollout, history: Sequence[str]) -> dict[str, str]:
    return {
        "live": rollout.live,
        "generation": str(rollout.generation),
        "previous": rollout.previous or "",
        "history": json.dumps(history),
        "confirmed": rollout.confirmed or "",
        "canary": rollout.canary or "",
        "fraction": repr(rollout.fraction) if rollout.canary else "",
        "live_since": _spelled_time(rollout.live_since),
        "canary_since": _spelled_time(rollout.canary_since),
        "confirmed_since": _spelled_time(rollout.confirmed_since),
    }


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


def _time(found: str | None) -> float | None:
    return float(found) if found else None


def _spelled_time(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds)
