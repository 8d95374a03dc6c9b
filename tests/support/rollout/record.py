"""What a planned change does to the record, done to a snapshot of it."""

from __future__ import annotations

from dataclasses import replace

from models.versions import Snapshot, Transition, may_move


def applied(snapshot: Snapshot, change: Transition) -> Snapshot:
    """Do to a snapshot what the script does to the record."""
    versions = dict(snapshot.versions)
    for move in change.moves:
        facts = versions[move.version]
        assert facts.state == move.old
        assert may_move(move.old, move.new)
        stopped = (move.old, move.new) == ("canary", "approved")
        stopped = stopped or (facts.stopped and move.new not in {"live", "canary"})
        versions[move.version] = replace(facts, state=move.new, stopped=stopped)
    return Snapshot(change.rollout, change.history, versions, snapshot.paused or change.pause)
