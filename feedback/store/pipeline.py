"""A pipeline to Redis: calls that come while others are under way are sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedback.errors import StoreUnavailableError
from feedback.store.durability import (
    PROBE,
    QUESTION,
    WAIT,
    WRITE,
    DurabilityStatus,
    assess,
    on_disk,
)

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.connection import AbstractConnection

    Words = tuple[str | int | float, ...]

AT_ONCE = 2
"""Groups that wait for their answers at the same time: one is served while one is decoded.

More would make the groups smaller, and so each call dearer to both sides.
"""

LARGEST = 256
"""Calls in a group."""

_REFUSALS = ("OOM", "MISCONF", "READONLY", "LOADING", "NOREPLICAS", "MASTERDOWN", "BUSY")


@dataclass(frozen=True, slots=True, eq=False)
class PendingCall:
    """One command under way.

    Attributes:
        packed: What is sent.
        in_full: The words to send instead if the server does not know the script by its hash.
        answer: Gets the answer, or the error.
    """

    packed: bytes
    in_full: Words | None
    answer: asyncio.Future[Any]

    def finish(self, outcome: object) -> None:
        """Give the caller the outcome, if it still waits."""
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(_translated(outcome))
        else:
            self.answer.set_result(outcome)


class Pipeline:
    """A queue of calls to one Redis.

    What is called while ``AT_ONCE`` groups are under way becomes the next group: one write, one
    read, and for the server one fsync. A caller that is cancelled leaves its call to end by itself:
    were it cut off between its request and its reply, the next user of the connection could get
    that reply.

    No command is sent twice: a write whose reply got lost may have happened, and only the caller
    knows whether to ask again.

    Args:
        pool: The connections; nobody else uses them.
        durable: Whether an answer means that all that was written is on disk. What the server
            needs for that is asked at each connect, for it may have changed meanwhile.
    """

    def __init__(self, pool: BlockingConnectionPool, *, durable: bool) -> None:
        self._pool = pool
        self._durability: dict[AbstractConnection, DurabilityStatus] = {}
        self._waiting: deque[PendingCall] = deque()
        self._groups: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._unanswered = 0
        if durable:
            pool.connection_kwargs["redis_connect_func"] = self._connect

    def ask(self, words: Words, in_full: Words | None = None) -> asyncio.Future[Any]:
        """Send a command with the next group.

        The answer raises ``StoreUnavailableError`` when Redis is away, refuses or cannot
        keep a write.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(PendingCall(pack(words), in_full, answer))
        self._next_group()
        return answer

    async def close(self) -> None:
        """Let the calls under way end, then close the connections."""
        while self._groups:
            await asyncio.wait(self._groups)
        await self._pool.disconnect()

    def _next_group(self) -> None:
        """Begin a group, unless one is being gathered or enough are under way."""
        if self._waiting and not self._gathering and self._unanswered < AT_ONCE:
            self._gathering = True
            self._unanswered += 1
            task = asyncio.create_task(self._group())
            self._groups.add(task)
            task.add_done_callback(self._groups.discard)

    async def _group(self) -> None:
        """Send all that waits, and hand each caller its answer."""
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except Exception as error:
            calls = self._gather()
            self._give_way()
            self._finish(calls, [error] * len(calls))
            return
        try:
            await self._serve(self._gather(), connection)
        finally:
            await self._pool.release(connection)

    def _gather(self) -> list[PendingCall]:
        """Take a group off the queue; what comes from now on is the next one's."""
        self._gathering = False
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST))]

    def _give_way(self) -> None:
        self._unanswered -= 1
        self._next_group()

    async def _serve(self, calls: list[PendingCall], connection: AbstractConnection) -> None:
        durability = self._durability.get(connection, DurabilityStatus())
        try:
            try:
                outcomes = await _exchange(calls, connection, durability)
            finally:
                # Others need not wait for this group's turn of the disk.
                self._give_way()
            if durability.waits:
                written, waited = await _read(connection), await _read(connection)
                _hold(written if isinstance(written, ResponseError) else waited)
        except Exception as error:
            outcomes = [error] * len(calls)
        self._finish(calls, outcomes)

    def _finish(self, calls: list[PendingCall], outcomes: list[Any]) -> None:
        """Hand out the answers; a script that the server does not know goes again, in full."""
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, NoScriptError) and call.in_full:
                packed = pack(call.in_full)
                self._waiting.append(replace(call, packed=packed, in_full=None))
            else:
                call.finish(outcome)
        self._next_group()

    async def _connect(self, connection: AbstractConnection) -> None:
        """Greet the server, and ask how it writes to disk."""
        await connection.on_connect()
        await connection.send_packed_command(pack(QUESTION) + pack(PROBE), check_health=False)
        self._durability[connection] = assess(await _read(connection), await _read(connection))


def pack(words: Words) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub allows one word
    return packed


async def _exchange(
    calls: list[PendingCall], connection: AbstractConnection, durability: DurabilityStatus
) -> list[Any]:
    """Send calls and return their answers, errors of their own among them."""
    if durability.refusal:
        raise StoreUnavailableError(
            "The feedback store (Redis) cannot promise to keep a write, so nothing was written. "
            f"{durability.refusal}"
        )
    packed = [call.packed for call in calls]
    if durability.waits:
        packed += [pack(WRITE), pack(WAIT)]
    await connection.send_packed_command(b"".join(packed))
    return [await _read(connection) for _ in calls]


async def _read(connection: AbstractConnection) -> Any:
    """Return one answer, or the error that it is."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _hold(answer: Any) -> None:
    """Raise unless the answer to ``WAIT`` says that ``WRITE`` and all before it is on disk."""
    if not on_disk(answer):
        raise StoreUnavailableError(
            "The feedback store (Redis) took the write, but did not say in time that the write is "
            "on disk, so a crash may lose it. Check Redis's disk, then send the request again. "
            f"({answer})"
        )


def _translated(error: Exception) -> Exception:
    """Return what the rest of Thumbloop knows instead of redis-py's errors; for one caller only."""
    if isinstance(error, StoreUnavailableError):
        return StoreUnavailableError(*error.args)
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        message = (
            "The feedback store (Redis) cannot be reached, so nothing was confirmed. Check that "
            f"it runs and that THUMBLOOP_REDIS_URL names it, then try again. ({error})"
        )
    elif isinstance(error, ResponseError) and any(word in str(error) for word in _REFUSALS):
        message = (
            "The feedback store (Redis) refused the request, so nothing was confirmed. Check its "
            f"memory, its disk and its role, then try again. ({error})"
        )
    else:
        return error
    translated = StoreUnavailableError(message)
    translated.__cause__ = error
    return translated
