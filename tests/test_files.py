"""Files that are whole or not there; folders for one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from asdjax.errors import InputError
from asdjax.files import locked_folder, replace_text

HOLDING = """
import sys
from pathlib import Path
from asdjax.files import locked_folder

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
