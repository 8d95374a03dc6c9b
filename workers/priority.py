"""How far learning gives way to chat."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
"""Linux with autogroups shares the cores among sessions first: sched(7)."""


def give_way(niceness: int) -> None:
    """Lower this process's priority, also against other sessions.

    With autogroups, niceness counts against one's own session only. The session's own niceness is
    set too where the session is that of the worker which runs us, as under ``thumbloop up``; in
    another's, say a shell's, it would slow down whatever else was started there.
    """
    os.nice(niceness)
    if os.getsid(0) in {os.getpid(), os.getppid()}:
        with suppress(OSError):  # no autogroups, or not ours to set
            AUTOGROUP.write_text(str(niceness))
