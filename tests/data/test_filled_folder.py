"""A folder that is being filled: each recording once, when it is complete."""

import contextlib
from pathlib import Path

import pytest

from asdjax.data import filled_folder
from asdjax.data.filled_folder import watch_folder
from asdjax.errors import InputError

STABLE_LOOKS = 2


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[int, list]:
    """Actions to take after a look at the folder, by its number; the watch ends after the twelfth.

    A look takes as long as half of the time for which a recording must not change.
    """
    actions: dict[int, list] = {}
    number = 0
    monkeypatch.setattr(filled_folder, "monotonic", lambda: number * filled_folder._STABLE_S / STABLE_LOOKS)

    def sleep(_: float) -> None:
        nonlocal number
        number += 1
        if number > 12:
            raise KeyboardInterrupt
        for action in actions.get(number, ()):
            action()

    monkeypatch.setattr(filled_folder, "sleep", sleep)
    return actions


def collect(folder: Path, *, also_present: bool = False) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        for path in watch_folder(folder, also_present=also_present):
            found.append(path.name)
    return found


def test_new_recordings_come_once_each_when_they_no_longer_grow(tmp_path: Path, looks: dict[int, list]):
    (tmp_path / "old.wav").write_bytes(b"1")
    growing, quick = tmp_path / "growing.wav", tmp_path / "quick.FLAC"
    looks[1] = [lambda: growing.write_bytes(b"1"), lambda: quick.write_bytes(b"1")]
    looks[2] = [lambda: growing.write_bytes(b"12")]
    looks[4] = [lambda: growing.write_bytes(b"123")]
    looks[5] = [lambda: (tmp_path / "notes.txt").write_text("no sound"), (tmp_path / "empty.wav").touch]
    assert collect(tmp_path) == ["quick.FLAC", "growing.wav"]


def test_those_that_are_there_may_be_wanted_and_one_written_anew_is_new(tmp_path: Path, looks: dict[int, list]):
    for name in ("b.wav", "a.wav"):
        (tmp_path / name).write_bytes(b"1")
    looks[4] = [lambda: (tmp_path / "a.wav").write_bytes(b"another")]
    got = collect(tmp_path, also_present=True)
    assert sorted(got[:2]) == ["a.wav", "b.wav"]
    assert got[2:] == ["a.wav"]


def test_a_folder_that_goes_away_for_a_while_is_tried_again(
    tmp_path: Path, looks: dict[int, list], capsys: pytest.CaptureFixture[str]
):
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    looks[1] = [lambda: (folder / "a.wav").write_bytes(b"1")]
    looks[4] = [lambda: folder.rename(away)]
    looks[6] = [folder.mkdir]  # a mount point without its disk
    looks[7] = [folder.rmdir, lambda: away.rename(folder), lambda: (folder / "b.wav").write_bytes(b"1")]
    assert collect(folder) == ["a.wav", "b.wav"]
    assert capsys.readouterr().err.count("cannot be read (No such file or directory); trying again") == 1


def test_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="expected a folder that recordings are put into, got none"):
        watch_folder(tmp_path / "none")


def test_those_that_arrive_before_the_first_look_are_new(tmp_path: Path, looks: dict[int, list]):
    """While models are loaded, say."""
    watched = watch_folder(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"1")
    assert looks == {}
    assert next(watched).name == "a.wav"
