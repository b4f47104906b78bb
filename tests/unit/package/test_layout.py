"""The layout: three links, no package named `queue` at the root, complete distributions.

`queue/`, `workers/` and `stores/` lie at the top level and are imported through links inside
`livingai/`. A `queue/__init__.py` would shadow the standard library's `queue` for anything that
runs from the root, multiprocessing and pytest included.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling import build

from tests.support.agents import ROOT
from tests.support.patience import patience

LINKED = ("queue", "stores", "workers")
#: Suffixes of files that the package needs, or that explain a folder.
SHIPPED = {".py", ".md", ".lua", ".sql", ".typed"}


def sources(folder: Path) -> set[str]:
    """The shipped files under a folder, relative to it."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in SHIPPED and "__pycache__" not in path.parts
    }


def in_wheel(wheel: Path, folder: str) -> set[str]:
    prefix = f"livingai/{folder}/"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)), "a file is in the wheel twice"
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def python(*code: str, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_queue_is_the_standard_librarys_when_run_from_the_root() -> None:
    found = python("import queue", "queue.Queue", "print(queue.__file__)", cwd=ROOT)
    assert not Path(found).is_relative_to(ROOT / "queue")


def test_queue_has_no_init() -> None:
    assert (ROOT / "queue").is_dir()
    assert not (ROOT / "queue" / "__init__.py").exists()


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="an unpacked sdist has copies, not links")
@pytest.mark.parametrize("name", LINKED)
def test_link_in_the_package(name: str) -> None:
    link = ROOT / "livingai" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_livingai_queue_is_a_namespace_package(tmp_path: Path) -> None:
    origin = python("import livingai.queue as q", "print(q.__file__)", cwd=tmp_path)
    assert origin == "None"


def test_wheel_and_sdist_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    direct = tmp_path / build.build_wheel(str(tmp_path))
    sdist = tmp_path / build.build_sdist(str(tmp_path))

    with tarfile.open(sdist) as archive:
        names = archive.getnames()
        assert len(names) == len(set(names)), "a file is in the sdist twice"
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()

    monkeypatch.chdir(unpacked)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / build.build_wheel(str(tmp_path / "again"))

    for name in LINKED:
        expected = sources(ROOT / name)
        assert in_wheel(direct, name) == expected
        assert in_wheel(again, name) == expected
        assert sources(unpacked / name) == expected
    expected = sources(ROOT / "livingai") | {
        f"{name}/{path}" for name in LINKED for path in sources(ROOT / name)
    }
    for wheel in (direct, again):
        with zipfile.ZipFile(wheel) as archive:
            packed = set(archive.namelist())
        found = {name.removeprefix("livingai/") for name in packed if name.startswith("livingai/")}
        assert found == expected
        assert not {name.split("/")[0] for name in packed} - {"livingai", *dist_info(packed)}
    assert {"py.typed", "_version.py", "stores/redis/commit.lua"} <= expected


def dist_info(names: set[str]) -> set[str]:
    """The folder of the distribution's own description."""
    return {name.split("/")[0] for name in names if ".dist-info/" in name}
