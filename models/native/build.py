"""Compiles a C++ library for this machine's processor, once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.errors import EngineError
from models.native.processor import processor

FLAGS = (
    "-std=c++20",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-sanitize=all",
    "-fvisibility=default",
    "-fPIC",
    "-shared",
    "-nostdlib++",
)
_FOLDER = Path(__file__).parent
_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Program:
    """The files of a compiled library.

    Attributes:
        name: The prefix of the library's file name.
        source: The file to compile.
        headers: The included headers in the source's folder.
        shared: The included headers in this module's folder.
    """

    name: str
    source: Path
    headers: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The source and every header that it includes."""
        headers = [self.source.parent / name for name in self.headers]
        return [self.source, *headers, *(_FOLDER / name for name in self.shared)]


def library(folder: Path, program: Program) -> Path:
    """Return the compiled library in ``folder``; compiles it first if needed (about 5 s).

    Raises:
        EngineError: The compiler is missing or fails.
    """
    target = folder / f"{program.name}-{_fingerprint(program)}.so"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        built = Path(scratch) / target.name
        _compile(program, built)
        built.rename(target)
    return target


def _compile(program: Program, target: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        raise EngineError(
            "The compiler (the package ziglang) is missing: run `make setup`, or set "
            "THUMBLOOP_RUNNER=transformers to do without the native runner."
        )
    # zig's clang is a Python package, so that users need not install a compiler.
    command = [sys.executable, "-m", "ziglang", "c++", *_flags(), f"-I{_FOLDER}"]
    command.append(program.source.name)
    command += ["-o", str(target), "-lm", "-lpthread"]
    caches = dict.fromkeys(("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR"), str(target.parent))
    environment = {**os.environ, **caches}
    try:
        done = subprocess.run(
            command,
            cwd=program.source.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"The native runner cannot be compiled here: {error}") from error
    if done.returncode:
        raise EngineError(f"The native runner cannot be compiled here: {done.stderr.strip()}")


def _fingerprint(program: Program) -> str:
    """Return a hash of the library's files, the compiler flags and the processor."""
    digest = hashlib.sha256(" ".join(_flags()).encode())
    for file in program.files:
        digest.update(file.read_bytes())
    digest.update("\n".join([platform.machine(), *processor().lines]).encode())
    return digest.hexdigest()[:16]


def _flags() -> list[str]:
    return [*FLAGS, "-DTHUMBLOOP_FAST_PAIRS"] if processor().multiplies_pairs else [*FLAGS]
