from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from service.settings import ServiceSettings
from service.up.errors import UpError
from service.up.keeper import ProcessKeeper
from service.up.parts import Part, beat_command, worker_command
from service.up.plan import StartPlan, make_plan
from service.up.supervisor import Supervisor
from service.up.up import free_port, only_one

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio
LINUX = sys.platform.startswith("linux")


def shell(name: str, script: str, **options: float | bool) -> Part:
    return Part(name, ("/bin/sh", "-c", script), **options)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - not a file to speak of
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def outlives(pid: int) -> bool:
    """Whether a process is still there long after it was to end: the kernel may take a moment."""
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_alive(pid)


async def test_a_part_that_dies_is_started_again_ever_more_slowly(tmp_path: Path) -> None:
    said: list[str] = []
    part = shell("api", "echo hello; exit 3")
    keeper = ProcessKeeper(part, tmp_path, lambda name, line: said.append(f"{name}: {line}"), 0.05)
    keeper.start()
    await until(lambda: keeper.deaths == 3)
    await keeper.stop()
    ends = [line for line in said if "ended" in line]
    assert ends == [
        f"api: ended with exit code 3; it is started again in {delay} s"
        for delay in ("0.05", "0.1", "0.2")
    ]
    assert said.count("api: hello") == 3
    assert (tmp_path / "api.log").read_text() == "hello\n" * 3


async def test_a_quiet_part_speaks_when_it_dies(tmp_path: Path) -> None:
    said: list[str] = []
    part = shell("redis", "echo Bad file format; exit 1", quiet=True)
    keeper = ProcessKeeper(part, tmp_path, lambda _, line: said.append(line), 5)
    keeper.start()
    await until(lambda: keeper.deaths)
    await keeper.stop()
    assert said[0] == "Bad file format"


async def test_a_part_that_ignores_the_request_is_killed_with_all_it_started(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    script = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"
    keeper = ProcessKeeper(
        shell("api", script, grace=0.3), tmp_path, lambda _, line: said.append(line)
    )
    keeper.start()
    await until(lambda: said)
    pid, child = keeper.pid, int(said[0])
    await keeper.stop()
    assert said[1:] == ["did not stop within 0.3 s: killed"]
    assert not is_alive(pid)
    await until(lambda: not is_alive(child))


async def test_what_a_dead_part_started_does_not_outlive_it(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = ProcessKeeper(
        shell("api", "sleep 60 & echo $!; exit 1"), tmp_path, lambda _, line: said.append(line), 5
    )
    keeper.start()
    await until(lambda: keeper.deaths)
    await until(lambda: not is_alive(int(said[0])))
    await keeper.stop()


def test_a_second_one_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(UpError, match=f"already running on {tmp_path}")
    with only_one(tmp_path), refused, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UpError, match=f"Port {port} on 127.0.0.1 cannot be used"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


def test_port_0_becomes_a_free_one() -> None:
    assert free_port("127.0.0.1", 0) > 0


def test_the_address_that_people_open() -> None:
    assert ServiceSettings(host="0.0.0.0", port=80).local_url == "http://127.0.0.1:80"
    assert ServiceSettings(host="::", port=80).local_url == "http://[::1]:80"


def test_the_plan_for_a_fresh_folder(tmp_path: Path) -> None:
    plan = make_plan(ServiceSettings(data_dir=tmp_path, port=8123))
    names = [[part.name for part in stage] for stage in plan.stages]
    assert names == [["api"], ["beat"], ["worker-control", "worker-learn"]]
    assert plan.redis is not None
    assert plan.preparation is not None
    assert plan.preparation[-2:] == ("models", "import")
    environment = plan.stages[0][0].environment
    assert environment["THUMBLOOP_DATA_DIR"] == str(tmp_path)
    assert environment["THUMBLOOP_PORT"] == "8123"


def test_the_plan_with_a_redis_and_a_base_of_the_operators(tmp_path: Path) -> None:
    settings = ServiceSettings(data_dir=tmp_path, redis_url="redis://x", base_model="/models/mine")
    plan = make_plan(settings)
    assert plan.redis is None
    assert plan.preparation is None


def test_an_imported_base_is_not_imported_again(tmp_path: Path) -> None:
    (tmp_path / "base" / ".import-unfinished").mkdir(parents=True)
    assert make_plan(ServiceSettings(data_dir=tmp_path)).preparation is not None
    (tmp_path / "base" / "smollm").mkdir()
    assert make_plan(ServiceSettings(data_dir=tmp_path)).preparation is None


def test_celery_is_a_process_of_its_own() -> None:
    assert worker_command("learn")[:3] == (sys.executable, "-m", "celery")
    assert "learn" in worker_command("learn")
    assert "solo" in worker_command("control")
    assert "beat" in beat_command()


def fake_plan(folder: Path, **changes: object) -> StartPlan:
    """Plan parts that note when they start and stop."""

    def part(name: str) -> Part:
        note = f"echo {{}} {name} >> {folder}/notes"
        script = f"trap '{note.format('stop')}; exit 0' TERM; {note.format('start')}; "
        return shell(name, script + "while :; do sleep 0.02; done")

    async def redis_answers() -> bool:
        return "start redis" in notes(folder)

    async def missing() -> str | None:
        return None if len(notes(folder)) == 5 else "parts are starting"

    fields: dict[str, object] = {
        "redis": part("redis"),
        "redis_answers": redis_answers,
        "preparation": ("/bin/sh", "-c", f"echo prepared >> {folder}/notes"),
        "stages": ((part("api"),), (part("beat"),), (part("learn"),)),
        "missing": missing,
        "greeting": ("All is ready.",),
    }
    return StartPlan(**(fields | changes))


def notes(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return (folder / "notes").read_text().splitlines()
    return []


async def test_parts_start_after_redis_and_stop_in_order(tmp_path: Path) -> None:
    out = io.StringIO()
    supervisor = Supervisor(fake_plan(tmp_path), tmp_path / "logs", Console(file=out))
    running = asyncio.create_task(supervisor.run())
    await until(lambda: "All is ready." in out.getvalue())
    assert notes(tmp_path)[:2] == ["start redis", "prepared"]
    assert sorted(notes(tmp_path)[2:]) == ["start api", "start beat", "start learn"]
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert notes(tmp_path)[5:] == ["stop api", "stop beat", "stop learn", "stop redis"]


async def test_a_part_that_never_starts_ends_the_start(tmp_path: Path) -> None:
    broken = shell("api", "echo no model; exit 1")
    plan = fake_plan(tmp_path, stages=((broken,),))
    supervisor = Supervisor(plan, tmp_path / "logs", Console(file=io.StringIO()), 0.01)
    with pytest.raises(UpError, match=r"api does not start: see above and .*api\.log"):
        await supervisor.run()
    assert notes(tmp_path)[-1] == "stop redis"


async def test_a_preparation_that_fails_ends_the_start(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path, preparation=("/bin/sh", "-c", "exit 1"))
    with pytest.raises(UpError, match="could not be imported"):
        await Supervisor(plan, tmp_path / "logs", Console(file=io.StringIO())).run()
    assert notes(tmp_path) == ["start redis", "stop redis"]


SCRIPT = """
    import asyncio, sys
    from pathlib import Path
    from rich.console import Console
    from service.up.plan import StartPlan
    from service.up.parts import Part
    from service.up.supervisor import Supervisor

    async def yes(): return True
    async def nothing(): return None

    part = Part("api", ("/bin/sh", "-c", "sleep 60 & echo part $! $$; wait"))
    plan = StartPlan(None, yes, None, ((part,),), nothing, ("ready",))
    asyncio.run(Supervisor(plan, Path(sys.argv[1]), Console()).run())
"""


@pytest.fixture
def supervisor_process(tmp_path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def pids_of_part(process: subprocess.Popen[str]) -> list[int]:
    for line in process.stdout or ():
        if "part " in line:
            return [int(word) for word in line.split()[-2:]]
    pytest.fail("the part did not speak")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_everything_with_exit_code_0(
    supervisor_process: subprocess.Popen[str], number: signal.Signals
) -> None:
    pids = pids_of_part(supervisor_process)
    supervisor_process.send_signal(number)
    supervisor_process.communicate(timeout=20)
    assert supervisor_process.returncode == 0
    assert not any(outlives(pid) for pid in pids)


@pytest.mark.skipif(not LINUX, reason="only Linux ends children with their parent")
def test_a_killed_supervisor_takes_its_parts_along(
    supervisor_process: subprocess.Popen[str],
) -> None:
    _, shell_pid = pids_of_part(supervisor_process)
    supervisor_process.kill()
    supervisor_process.communicate(timeout=20)
    assert not outlives(shell_pid)
