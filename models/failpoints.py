"""Failpoints: named points of an update at which a test can kill, stop or break the process.

``THUMBLOOP_FAILPOINTS`` sets them, for example ``claim.after=kill;commit.before=sleep:5``. All are
off by default. The actions are:

=============  =====================================================================
``kill``       the process kills itself with SIGKILL, without any cleanup
``stop``       the process stops itself with SIGSTOP, until SIGCONT
``sleep:2.5``  the calling thread sleeps for that many seconds
``raise``      ``FailpointError`` is raised
=============  =====================================================================
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from functools import cache
from typing import TYPE_CHECKING

from models.errors import ModelsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Action = Callable[[str], None]

VARIABLE = "THUMBLOOP_FAILPOINTS"

FAILPOINTS = {
    "claim.before": "there is work; nothing is claimed yet",
    "claim.after": "the batch is frozen and the lease runs",
    "take_over.after": "an open run was taken over from a learner that fell silent",
    "batch.read": "the batch's completions are read; the model is not loaded yet",
    "learn.midst": "at each sign of progress, in the learner's thread",
    "learn.after": "the new weights are in memory only",
    "publish.before_scratch": "the lease was renewed just before; nothing is written yet",
    "publish.begin": "the scratch folder is there, and empty",
    "publish.files_written": "all files are written; none is on the disk for certain",
    "publish.before_rename": "all files are on the disk; the folder has its scratch name",
    "publish.after_rename": "the folder has its name, which a power cut may still take back",
    "publish.after_sync": "the folder and its name are on the disk",
    "commit.before": "the adapter is published; the record does not know it",
    "commit.after": "the version is a candidate; its votes are learned",
    "probe.after": "the candidate is measured; the verdict is not written",
    "finish.after": "the run has ended with its verdict",
    "promote.after": "the version is live",
}
"""The state of an update at each failpoint; docs/reference/faults.md lists them."""

logger = logging.getLogger(__name__)


class FailpointError(Exception):
    """Raised by a failpoint whose action is ``raise``."""


def failpoint(name: str) -> None:
    """Run the action that the environment sets for a failpoint, if any.

    Raises:
        FailpointError: The action is ``raise``.
        ModelsError: The environment's list is invalid.
    """
    action = armed().get(name)
    if action is not None:
        action(name)


@cache
def armed() -> Mapping[str, Action]:
    """Return the actions of the failpoints that are set; reads the environment once.

    Raises:
        ModelsError: A name or an action is unknown.
    """
    return parse(os.environ.get(VARIABLE, ""))


def check_failpoints() -> None:
    """Log a warning if any failpoint is set; each process calls this at its start.

    Raises:
        ModelsError: A name or an action is unknown.
    """
    if armed():
        logger.warning(
            "FAILPOINTS ARE SET, this process will break on purpose at: %s. "
            "Unset %s unless this is a test.",
            ", ".join(armed()),
            VARIABLE,
        )


def parse(text: str) -> dict[str, Action]:
    """Return the action of each failpoint that ``text`` sets.

    Raises:
        ModelsError: A name or an action is unknown.
    """
    found: dict[str, Action] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, action = entry.partition("=")
        if name not in FAILPOINTS:
            raise ModelsError(
                f"{VARIABLE} names {name!r}, which is not a failpoint. The failpoints are: "
                f"{', '.join(FAILPOINTS)}."
            )
        found[name] = _parse_action(action)
    return found


def _parse_action(action: str) -> Action:
    word, _, amount = action.partition(":")
    try:
        if word == "sleep" and 0 <= (seconds := float(amount)) < math.inf:
            return lambda _name: time.sleep(seconds)
        return _ACTIONS[action]
    except (KeyError, ValueError):
        raise ModelsError(
            f"{VARIABLE} asks for {action!r}; a failpoint can kill, stop, raise or sleep:SECONDS."
        ) from None


def _kill(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(name: str) -> None:
    raise FailpointError(f"The failpoint {name} is set to raise.")


_ACTIONS: dict[str, Action] = {"kill": _kill, "stop": _stop, "raise": _raise}
