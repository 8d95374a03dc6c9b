"""The Redis that Thumbloop brings along: its files, its socket and its command line."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from feedback.errors import StoreUnavailableError

_LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel takes 107, other systems fewer."""

_CONFIG = """\
# Written at each start by Thumbloop; changes here are lost.
dir {folder}
unixsocket {socket}
unixsocketperm 700
port 0
daemonize no
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
"""


def redis_binary() -> Path:
    """Return the Redis server to start: the one that set-up installed, else the one on PATH.

    Raises:
        StoreUnavailableError: There is none.
    """
    installed = Path(sys.prefix) / "bin" / "thumbloop-redis-server"
    if installed.is_file():
        return installed
    found = shutil.which("redis-server")
    if found is None:
        raise StoreUnavailableError(
            "There is no Redis server to start. Run `make setup`, install redis-server, "
            "or set THUMBLOOP_REDIS_URL to a server of your own."
        )
    return Path(found)


def embedded_url(data_dir: Path) -> str:
    """Return the URL of the embedded Redis of a data folder, running or not."""
    return EmbeddedRedis(data_dir).url


class EmbeddedRedis:
    """The embedded Redis of one data folder; it listens on a unix socket only."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir.absolute() / "redis"
        self.socket = self.folder / "redis.sock"
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            name = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
            self.socket = Path(tempfile.gettempdir()) / f"thumbloop-{name}" / "redis.sock"

    @property
    def url(self) -> str:
        """URL for redis-py."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def celery_url(self) -> str:
        """URL for Celery's broker."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    def command(self) -> list[str]:
        """Write the configuration and return the command line that starts the server.

        Raises:
            StoreUnavailableError: No server is installed, or the socket's folder is not ours alone.
        """
        binary = redis_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.socket.parent != self.folder:
            _make_private(self.socket.parent)
        config = self.folder / "redis.conf"
        config.write_text(
            _CONFIG.format(folder=_quoted(self.folder), socket=_quoted(self.socket)),
            encoding="utf-8",
        )
        return [str(binary), str(config)]


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter; refuse one that somebody else prepared."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
    if not private or found.st_uid != os.getuid():
        raise StoreUnavailableError(
            f"{folder} must be a folder that only you can enter. Remove it, or choose a shorter "
            "THUMBLOOP_DATA_DIR, so that the socket fits into it."
        )


def _quoted(path: Path) -> str:
    """Return a path as one argument of redis.conf."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
