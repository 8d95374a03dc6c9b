"""Notes what a process opens below a folder and whom it calls beyond this machine.

``FAULTS_TOUCHED`` names the file for the notes and ``FAULTS_FORBIDDEN`` the folder. As a program it
runs ``thumbloop`` so: ``python -m tests.support.faults.access_log versions list``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_HERE = ("127.0.0.1", "::1", "localhost", None)


def note_touched() -> None:
    """Begin to note; there is no way back."""
    notes = os.environ.get("FAULTS_TOUCHED")
    if notes is None:
        return
    forbidden = os.path.realpath(os.environ["FAULTS_FORBIDDEN"])
    handle = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        said = touched(event, args, forbidden)
        if said:
            os.write(handle, f"{said}\n".encode())

    sys.addaudithook(hook)


def touched(event: str, args: tuple[Any, ...], forbidden: str) -> str | None:
    """Return what is to be noted of an audit event of Python's, if anything is."""
    if event in {"open", "os.listdir", "os.scandir"} and isinstance(args[0], str | bytes):
        path = os.path.realpath(os.fsdecode(args[0]))
        return f"{event} {path}" if (path + "/").startswith(forbidden + "/") else None
    if event in _NAMES:
        return None if args[0] in _HERE else f"{event} {args[0]}"
    if event == "socket.connect" and isinstance(args[1], tuple):
        return None if args[1][0] in _HERE else f"{event} {args[1]}"
    return None


if __name__ == "__main__":
    note_touched()
    from service.cli import main

    main()
