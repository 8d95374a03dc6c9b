"""Every key that Thumbloop has in Redis, with its type, its time to live and what it holds.

| key | type | lives | holds |
|---|---|---|---|
| ``tl:completion:{id}`` | hash | completion TTL | one reply: owner, user, ids, log-probs, version |
| ``tl:external:{hash}`` | string | completion TTL | a reply by the id that a front end gave it |
| ``tl:token-secret`` | string | for ever | signs feedback tokens |
| ``tl:user:{owner}:{user}`` | zset | both TTLs | a user's completions and votes: ids by time |
| ``tl:deleting:{owner}:{user}`` | hash | 7 days | a deletion under way: counts, versions, runs |
| ``tl:feedback:{id}`` | hash | vote TTL | the current vote, revision, state, whose it is |
| ``tl:feedback:log`` | stream | until exported | every vote event, in order; no names or texts |
| ``tl:feedback:ready`` | zset | for ever | ids of votes that no run has claimed, by time of vote |
| ``tl:feedback:turns`` | zset | for ever | the same ids, users in turn |
| ``tl:feedback:waiting`` | hash | for ever | how many of them each user has |
| ``tl:feedback:expiring`` | zset | for ever | the same ids, by when their completions expire |
| ``tl:feedback:exported`` | string | for ever | last entry of the log that a finished export has |
| ``tl:feedback:totals`` | hash | for ever | votes per thumb and per state |
| ``tl:disk-waits`` | int | for ever | how many waits for the disk there were |
| ``tl:run:{n}`` | hash | for ever | an update run: state, fence, frozen batch, version, report |
| ``tl:runs`` | zset | for ever | run numbers |
| ``tl:open`` | string | until finished | number of the run that is not finished |
| ``tl:sequence`` | int | for ever | last number given to a run, and so to a version |
| ``tl:fence`` | int | for ever | last fencing token |
| ``tl:lease`` | string | lease setting | fencing token of the learner that is alive |
| ``tl:resting`` | string | retry delay | fence of the attempt that failed last; or ``gate`` |
| ``tl:learning`` | string | until resumed | who paused learning |
| ``tl:looked`` | string | for ever | when a worker last checked for work |
| ``tl:request:{id}`` | hash | 7 days | an operator's request for an update, and the answer |
| ``tl:requests`` | zset | for ever | ids of the requests that wait |
| ``tl:version:{v}`` | hash | for ever | parent, state, manifest, figures; counters, also of base |
| ``tl:versions`` | zset | for ever | version ids by time, without ``base`` |
| ``tl:ungated`` | zset | until gated | candidates that no run made, by number |
| ``tl:rollout`` | hash | for ever | live, generation, history, confirmed, canary, fraction, times |
| ``tl:returning`` | list | until done | runs whose votes are to be given back, with the reason |
| ``tl:rollout:events`` | stream | a count | the audit: who, action, old, new, why, figures |
| ``tl:tallies`` | set | for ever | versions that the judge counts |
| ``tl:tally:votes:{name}`` | hash | while compared | votes by person (hashed), capped in number |
| ``tl:tally:replies:{name}`` | hash | while compared | counters: replies, errors, waits, lengths |
| ``tl:trial`` | string | while a canary runs | which canary the sides of the trial are of |
| ``tl:judging`` | string | for ever | the judge's last verdict, as JSON |
| ``tl:retention`` | hash | for ever | the last sweep, and where the next one goes on |
| ``tl:replica:{id}`` | hash | the reporter's TTL | what one API replica serves |
| ``tl:replicas`` | set | for ever | ids of the replicas seen |
| ``tl:key:{public id}`` | hash | for ever | an API key: name, scopes, SHA-256 of its secret |
| ``tl:keys`` | set | for ever | public ids of the API keys |

Scripts get the keys that are known beforehand through ``KEYS``. They build the others from ids that
they read, with the declarations that ``lua`` makes of this module. Redis Cluster would refuse that;
Celery's broker cannot be a cluster either, so none is supported.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FEEDBACK_LOG = "tl:feedback:log"
EXPORTED = "tl:feedback:exported"
READY = "tl:feedback:ready"
TURNS = "tl:feedback:turns"
WAITING = "tl:feedback:waiting"
EXPIRING = "tl:feedback:expiring"
DISK_WAITS = "tl:disk-waits"
TOKEN_SECRET = "tl:token-secret"  # noqa: S105 - the key, not the secret
TOTALS = "tl:feedback:totals"
RUNS = "tl:runs"
OPEN_RUN = "tl:open"
SEQUENCE = "tl:sequence"
FENCE = "tl:fence"
LEASE = "tl:lease"
RESTING = "tl:resting"
LEARNING = "tl:learning"
LOOKED = "tl:looked"
REQUESTS = "tl:requests"
VERSIONS = "tl:versions"
UNGATED = "tl:ungated"
ROLLOUT = "tl:rollout"
RETURNING = "tl:returning"
EVENTS = "tl:rollout:events"
TALLIES = "tl:tallies"
TRIAL = "tl:trial"
JUDGING = "tl:judging"
RETENTION = "tl:retention"
REPLICAS = "tl:replicas"
API_KEYS = "tl:keys"


_not_votes = frozenset({FEEDBACK_LOG, EXPORTED, READY, TURNS, WAITING, EXPIRING, TOTALS})


def completion(completion_id: str) -> str:
    """Return the key of a completion."""
    return f"tl:completion:{completion_id}"


def feedback(completion_id: str) -> str:
    """Return the key of the vote on a completion."""
    return f"tl:feedback:{completion_id}"


def can_be_vote(completion_id: str) -> bool:
    """Whether a completion of this id can have a vote; ``feedback("log")`` is the log's key."""
    return feedback(completion_id) not in _not_votes


def user(owner: str, name: str) -> str:
    """Return the key of a user's completions; owners hold no colon, so no two users share it."""
    return f"tl:user:{owner}:{name}"


def external(owner: str, name: str, external_id: str) -> str:
    """Return the key of the reply that a front end has by an id of its own; it names nobody."""
    whole = f"{owner}\0{name}\0{external_id}"
    return f"tl:external:{hashlib.sha256(whole.encode()).hexdigest()}"


def deleting(owner: str, name: str) -> str:
    """Return the key of the note on a deletion of a user that is under way."""
    return f"tl:deleting:{owner}:{name}"


def run(number: int) -> str:
    """Return the key of an update run."""
    return f"tl:run:{number}"


def version(version_id: str) -> str:
    """Return the key of a policy version."""
    return f"tl:version:{version_id}"


def tally_votes(name: str) -> str:
    """Return the key of the votes that the judge counts for a version, or a side of a trial."""
    return f"tl:tally:votes:{name}"


def tally_replies(name: str) -> str:
    """Return the key of how the replies of a version, or a side of a trial, went."""
    return f"tl:tally:replies:{name}"


def request(request_id: str) -> str:
    """Return the key of a request for an update."""
    return f"tl:request:{request_id}"


def replica(replica_id: str) -> str:
    """Return the key of an API replica."""
    return f"tl:replica:{replica_id}"


def api_key(public_id: str) -> str:
    """Return the key of an API key."""
    return f"tl:key:{public_id}"


_families: tuple[Callable[..., str], ...] = (
    completion,
    feedback,
    user,
    run,
    version,
    tally_votes,
    tally_replies,
    replica,
)


def lua(script: str) -> str:
    """Return declarations of the keys that a script names, to be put in front of it.

    A constant has its name here, as ``READY``; a family of keys is a function, as
    ``completion_key(id)``.
    """
    constants = {name: value for name, value in globals().items() if isinstance(value, str)}
    named = set(re.findall(r"\w+", script))
    lines = [f"local {name} = '{value}'" for name, value in constants.items() if name in named]
    lines += [_function(each) for each in _families if f"{each.__name__}_key" in named]
    return "\n".join([*lines, ""])


def _function(family: Callable[..., str]) -> str:
    """Return a family of keys as a function in Lua."""
    words = tuple(inspect.signature(family).parameters)
    built = family(*(f"' .. {word} .. '" for word in words))
    key = f"'{built}'".removesuffix(" .. ''")
    return f"local function {family.__name__}_key({', '.join(words)}) return {key} end"
