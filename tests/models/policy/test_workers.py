from __future__ import annotations

import threading
import time

import pytest
import torch

from models.policy.gradients import MasterGradients, SeparateGradients
from models.policy.workers import Workers, divide


def test_tasks_run_side_by_side_and_give_their_results_in_order() -> None:
    workers, together = Workers(2), threading.Barrier(2, timeout=20)

    def task(number: int) -> tuple[int, int]:
        together.wait()  # one alone would wait in vain
        return number, torch.get_num_threads()

    before = torch.get_num_threads()
    assert list(workers.map(task, [1, 2, 3, 4])) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert torch.get_num_threads() == before
    torch_threads: list[int] = []
    later = threading.Thread(target=lambda: torch_threads.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert torch_threads == [before]


def test_a_task_that_fails_leaves_none_at_work() -> None:
    workers, ended, begun = Workers(2), threading.Event(), threading.Event()

    def task(number: int) -> None:
        if number == 0:
            begun.wait(20)
            raise ValueError("broken")
        begun.set()
        time.sleep(0.2)
        ended.set()

    with pytest.raises(ValueError, match="broken"):
        list(workers.map(task, [0, 1]))
    assert ended.is_set()


def test_one_worker_is_the_caller() -> None:
    assert list(Workers().map(lambda _: threading.get_ident(), [0])) == [threading.get_ident()]


def test_work_is_divided_by_its_length() -> None:
    # 100 and 90, then 80 to the 90, 70 to the 100: 170 each
    assert divide([30, 100, 90, 80, 70], 2) == [[1, 4, 0], [2, 3]]
    assert divide([5], 3) == [[0]]
    assert divide([], 2) == []


def test_sums_apart_are_handed_over_once() -> None:
    master, apart = torch.nn.Parameter(torch.zeros(2)), SeparateGradients()
    MasterGradients().add(master, torch.tensor([1.0, 2.0]))
    apart.add(master, torch.tensor([1.0, 1.0]).bfloat16(), scale=2.0)
    apart.add(master, torch.tensor([0.5, 0.0]))
    for expected in ([3.5, 4.0], [3.5, 4.0]):
        apart.add_to_masters()
        assert master.grad is not None
        assert master.grad.tolist() == expected
