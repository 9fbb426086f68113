"""Tests of the private cache, which no other user can write to."""

import os
from pathlib import Path

import pytest

from asdjax.errors import InputError
from asdjax.runtime import private_cache


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of caches, which is not there yet; no message was logged yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    private_cache._log_no_cache.cache_clear()
    return tmp_path / "cache"


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_a_cache_is_made_for_this_user_alone_and_used_again(umask: int, cache_home: Path) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            assert private_cache.make_folder("xla") == cache_home / "asdjax" / "xla"
    finally:
        os.umask(before)
    for folder in (cache_home / "asdjax", cache_home / "asdjax" / "xla"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o750])
def test_a_cache_that_others_can_only_read_is_used(mode: int, cache_home: Path) -> None:
    (cache_home / "asdjax" / "xla").mkdir(parents=True)
    (cache_home / "asdjax").chmod(mode)
    (cache_home / "asdjax" / "xla").chmod(mode)
    assert private_cache.make_folder("xla") == cache_home / "asdjax" / "xla"


@pytest.mark.parametrize("linked", [False, True], ids=["folder", "link"])
@pytest.mark.parametrize("name", ["asdjax", "asdjax/xla"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702, 0o1777])
def test_a_cache_that_others_can_write_to_is_refused(
    mode: int, name: str, linked: bool, cache_home: Path, tmp_path: Path
) -> None:
    folder = cache_home / name
    folder.parent.mkdir(parents=True, mode=0o700)
    if linked:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InputError) as caught:
        private_cache.make_folder("xla")
    assert str(caught.value).startswith(
        f"{folder}: expected a folder that only you can write to, got mode {mode:o}; remove it, or chmod go-w it"
    )
    assert "set XDG_CACHE_HOME to a folder of your own" in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["asdjax", "asdjax/xla"])
def test_a_cache_of_another_user_is_refused(name: str, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root must refuse a cache that a user has prepared, and a user that of another."""
    assert private_cache.make_folder("xla") is not None
    lstat, status = Path.lstat, Path.stat

    def another(found: os.stat_result) -> os.stat_result:
        return os.stat_result([*found[:4], os.geteuid() + 1, *found[5:]])

    there = cache_home / name
    monkeypatch.setattr(Path, "lstat", lambda path: another(lstat(path)) if path == there else lstat(path))
    monkeypatch.setattr(
        Path, "stat", lambda path, **how: another(status(path, **how)) if path == there else status(path, **how)
    )
    with pytest.raises(
        InputError, match=f"{there}: expected a folder of user {os.geteuid()}, got one of user {os.geteuid() + 1}; set"
    ):
        private_cache.make_folder("xla")


def test_a_disk_that_sets_modes_of_its_own_has_no_cache(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    mkdir = Path.mkdir

    def open_to_all(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(path, mode, parents, exist_ok)
        path.chmod(0o777)

    monkeypatch.setattr(Path, "mkdir", open_to_all)
    for _ in range(2):
        assert private_cache.make_folder("xla") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compiled programs are not kept (")
    assert "got mode 777" in line


def test_a_link_to_a_folder_of_ones_own_is_used(cache_home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache_home.mkdir()
    (cache_home / "asdjax").symlink_to(tmp_path / "elsewhere")
    assert private_cache.make_folder("xla") == cache_home / "asdjax" / "xla"
