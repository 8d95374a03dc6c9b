"""The form of the tree: rooms and their tests, and modules that can be read in one go."""

from __future__ import annotations

from tests.support.product import FOLDERS, ROOT, modules

MOST_LINES = 400


def test_every_folder_of_tests_has_a_room_of_the_product() -> None:
    folders = [
        test.parent.relative_to(ROOT / "tests")
        for folder in FOLDERS
        for test in (ROOT / "tests" / folder).rglob("test_*.py")
    ]
    assert len(folders) > 100
    assert {str(folder) for folder in folders if not (ROOT / folder).is_dir()} == set()


def test_no_module_is_too_long_to_be_read_in_one_go() -> None:
    lines = {str(file): len((ROOT / file).read_text().splitlines()) for file in modules()}
    assert {file: count for file, count in lines.items() if count > MOST_LINES} == {}
