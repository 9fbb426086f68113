"""Tests of files that are complete or missing, and of folders for one process at a time."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asdjax.errors import InputError
from asdjax.runtime import files
from asdjax.runtime.files import is_locked, locked_folder, replace_text

HOLDING = """
import sys
from pathlib import Path
from asdjax.runtime.files import locked_folder

with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_text_is_replaced_and_nothing_else_left(tmp_path: Path):
    replace_text(tmp_path / "a.json", "old\n")
    replace_text(tmp_path / "a.json", "ü\n")
    assert (tmp_path / "a.json").read_bytes() == "ü\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    replace_text(tmp_path / "a.json", "old\n")
    with pytest.raises(UnicodeEncodeError):
        replace_text(tmp_path / "a.json", "\ud800")
    assert (tmp_path / "a.json").read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_second_process_is_refused_where_it_shall_not_wait(tmp_path: Path):
    words = [sys.executable, "-c", HOLDING, str(tmp_path / "run")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = pytest.raises(InputError, match="run: another asdjax process")
        with refused, locked_folder(tmp_path / "run", wait=False):
            pass
        process.communicate()
    with locked_folder(tmp_path / "run", wait=False):
        pass


def test_folders_made_for_nothing_go_again(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_a_name_that_cannot_be_go_again(tmp_path: Path):
    with pytest.raises(InputError, match="choose shorter names"), locked_folder(tmp_path / "new" / "a" / ("x" * 300)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_told(tmp_path: Path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match=r"; choose another folder$"), locked_folder(tmp_path / "a"):
        pass


def refusing(monkeypatch: pytest.MonkeyPatch, number: int, *, folders_only: bool) -> None:
    """Make locks fail with an error number, of folders only or of files too, as on a disk that cannot lock."""
    lock = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) or not folders_only:
            raise OSError(number, os.strerror(number))
        lock(handle, operation)

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr(files, "_unlockable", set())


CANNOT = pytest.mark.parametrize(
    "number", [errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK], ids=errno.errorcode.get
)


@CANNOT
def test_where_a_folder_cannot_be_locked_a_file_in_it_is(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Over NFS a lock needs a descriptor that is open for writing."""
    refusing(monkeypatch, number, folders_only=True)
    with locked_folder(tmp_path / "run", wait=False) as folder:
        assert is_locked(folder)
        with pytest.raises(InputError, match="another asdjax process"), locked_folder(folder, wait=False):
            pass
        assert is_locked(folder)
    assert not is_locked(tmp_path / "run")
    with locked_folder(tmp_path / "run", wait=False):
        pass
    assert list((tmp_path / "run").iterdir()) == []
    assert capsys.readouterr().err == ""


@CANNOT
def test_a_disk_that_cannot_lock_is_said_once_and_worked_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refusing(monkeypatch, number, folders_only=False)
    for name in ("one", "other"):
        with locked_folder(tmp_path / name, wait=False) as folder:
            (folder / "a").touch()
        assert [path.name for path in folder.iterdir()] == ["a"]
        assert not is_locked(folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'one'}: this disk cannot lock; see to it that no two")


def test_another_error_of_a_lock_is_no_disk_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refusing(monkeypatch, errno.EIO, folders_only=False)
    with pytest.raises(OSError, match="Input/output"), locked_folder(tmp_path / "run"):
        pass


def test_folders_made_for_nothing_go_again_with_the_file_that_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refusing(monkeypatch, errno.EBADF, folders_only=True)
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_who_waits_for_a_locked_file_gets_it_when_it_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refusing(monkeypatch, errno.EBADF, folders_only=True)
    order = []

    def second() -> None:
        with locked_folder(tmp_path / "run"):
            order.append("second")

    with locked_folder(tmp_path / "run"):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(30)
    assert order == ["first", "second"]
    assert list((tmp_path / "run").iterdir()) == []
