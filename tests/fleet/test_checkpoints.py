"""Saved steps: a restore returns exactly the saved arrays, or fails."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import python

from asdjax.errors import InputError
from asdjax.fleet import checkpoints
from asdjax.fleet.checkpoints import Damaged
from asdjax.runtime.files import add_checksum

TREES = {
    "model": {"net": {"early/kernel": jnp.arange(6.0).reshape(2, 3), "early/bias": jnp.ones(3)}},
    "optimizer": ({"velocity": jnp.arange(100.0)}, jnp.int32(7)),
}
SHAPES = jax.eval_shape(lambda: TREES)


def save(line: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        checkpoints.save(line, step, jax.tree.map(lambda leaf, step=step: leaf + step, TREES), keep)


def assert_restores(line: Path, step: int) -> None:
    restored = checkpoints.restore(line, step, SHAPES)
    assert jax.tree.structure(restored) == jax.tree.structure(TREES)
    jax.tree.map(lambda got, wanted: np.testing.assert_array_equal(got, wanted + step), restored, TREES)


def data_file(line: Path, step: int) -> Path:
    """Return the largest file of a step's model, which holds the arrays' data."""
    return max((p for p in (line / str(step) / "model").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_byte(line: Path, step: int) -> None:
    path = data_file(line, step)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def names(line: Path) -> set[str]:
    return {path.name for path in line.iterdir()}


def test_a_round_trip_keeps_every_bit(tmp_path: Path):
    save(tmp_path, 3)
    assert_restores(tmp_path, 3)
    model = checkpoints.restore(tmp_path, 3, {"model": SHAPES["model"]})
    assert list(model) == ["model"]


def test_the_newest_are_kept(tmp_path: Path):
    save(tmp_path, 2, 4, 10, keep=2)
    assert checkpoints.list_steps(tmp_path) == [4, 10]
    assert names(tmp_path) == {"4", "4.json", "10", "10.json"}


def test_two_tasks_never_have_orbax_at_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Concurrent saves wait for each other's signals, and about one in a hundred fails after five minutes."""
    at_work, most = 0, 0

    def count(checkpointer: type) -> type:
        class Counted(checkpointer):
            def __enter__(self):
                nonlocal at_work, most
                at_work += 1
                most = max(most, at_work)
                return super().__enter__()

            def __exit__(self, *error: Any):
                nonlocal at_work
                super().__exit__(*error)
                at_work -= 1

        return Counted

    for name in ("Checkpointer", "StandardCheckpointer"):
        monkeypatch.setattr(ocp, name, count(getattr(ocp, name)))
    lines = [tmp_path / "fan", tmp_path / "pump"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda line: save(line, 1, 2, 3), lines))
        list(pool.map(lambda line: assert_restores(line, 3), lines))
    assert most == 1


def test_a_tree_is_written_in_one_transaction(tmp_path: Path):
    """A file for each batch of arrays would make the file operations of a save grow with the arrays."""
    arrays = {f"a{i}": np.full(50, i, np.float32) for i in range(600)}
    checkpoints.save(tmp_path, 1, {"model": arrays}, keep=1)
    assert len([path for path in (tmp_path / "1").rglob("*") if path.is_file()]) <= 10
    restored = checkpoints.restore(tmp_path, 1, {"model": arrays})
    assert all(np.array_equal(restored["model"][name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("after", ["_require_files", "compute_sha256"])
def test_a_step_that_is_removed_while_it_is_read_is_damaged(
    after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Training removes old steps while an evaluation of them may be at work."""
    save(tmp_path, 3)
    whole = getattr(checkpoints, after)

    def then_removed(*arguments: Any) -> Any:
        result = whole(*arguments)
        shutil.rmtree(tmp_path / "3", ignore_errors=True)
        return result

    monkeypatch.setattr(checkpoints, after, then_removed)
    with pytest.raises(Damaged, match="missing"):
        checkpoints.restore(tmp_path, 3, SHAPES)


def test_a_step_whose_files_are_being_removed_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A removal that is not finished leaves files that Orbax opens and cannot read."""
    save(tmp_path, 3)
    restore, errors = checkpoints.orbax_trees.restore, []

    def restore_half(*arguments: Any) -> Any:
        data_file(tmp_path, 3).write_bytes(b"")
        try:
            return restore(*arguments)
        except ValueError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(checkpoints.orbax_trees, "restore", restore_half)
    with pytest.raises(Damaged, match="is not what was saved"):
        checkpoints.restore(tmp_path, 3, SHAPES)
    assert errors


def test_a_folder_without_its_json_does_not_exist(tmp_path: Path):
    assert checkpoints.list_steps(tmp_path / "nowhere") == []
    assert checkpoints.set_aside_damaged(tmp_path / "nowhere") is None
    save(tmp_path, 2, 4)
    (tmp_path / "4.json").unlink()
    assert checkpoints.list_steps(tmp_path) == [2]
    assert checkpoints.set_aside_damaged(tmp_path) == 2


def test_what_a_killed_save_left_is_overwritten(tmp_path: Path):
    save(tmp_path, 4)
    flip_a_byte(tmp_path, 4)
    (tmp_path / "4" / "rubbish").write_text("left over")
    (tmp_path / "4.json").unlink()
    save(tmp_path, 4)
    assert_restores(tmp_path, 4)
    assert not (tmp_path / "4" / "rubbish").exists()


def test_a_flipped_byte_is_noticed_and_an_older_step_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(tmp_path, 2, 4)
    flip_a_byte(tmp_path, 4)
    with pytest.raises(Damaged, match="4"):
        checkpoints.restore(tmp_path, 4, SHAPES)
    assert checkpoints.set_aside_damaged(tmp_path) == 2
    assert checkpoints.list_steps(tmp_path) == [2]
    assert {"4.damaged", "4.json.damaged"} <= names(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "set aside" in line


@pytest.mark.parametrize(
    "hurt",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]),
    ],
    ids=["cut in half", "empty", "missing", "zeros", "another first byte"],
)
def test_a_hurt_file_of_data_is_noticed_and_an_older_step_used(tmp_path: Path, hurt: Callable[[Path], Any]):
    save(tmp_path, 2, 4)
    for path in (tmp_path / "4" / "model").rglob("d/*"):
        hurt(path)
    assert checkpoints.set_aside_damaged(tmp_path) == 2


def test_what_several_devices_saved_one_restores(tmp_path: Path):
    code = """
import sys
sys.path.insert(0, "tests"), sys.path.insert(0, "tests/fleet")
from pathlib import Path
import jax
import test_checkpoints as t
from asdjax.runtime import hardware
mesh = hardware.make_meshes()[0]
assert mesh.size == 4
t.checkpoints.save(Path(sys.argv[1]), 0, hardware.replicate(t.TREES, mesh), 1)
"""
    ran = python(code, str(tmp_path), env={"XLA_FLAGS": "--xla_force_host_platform_device_count=4"})
    assert ran.returncode == 0, ran.stderr
    assert jax.device_count() == 1
    assert_restores(tmp_path, 0)


def test_other_content_than_was_saved_is_noticed_though_every_file_is_whole(tmp_path: Path):
    save(tmp_path, 2, 4)
    (tmp_path / "4" / "model").rename(tmp_path / "4" / "gone")
    (tmp_path / "2" / "model").rename(tmp_path / "4" / "model")
    with pytest.raises(Damaged, match=r"is not what was saved|is missing"):
        checkpoints.restore(tmp_path, 4, SHAPES)
    records = [json.loads((tmp_path / f"{step}.json").read_text()) for step in (2, 4)]
    records[1]["files"]["model"] = records[0]["files"]["model"]
    rewrite(tmp_path / "4.json", records[1])
    with pytest.raises(Damaged, match=r"early/(bias|kernel).* is not what was saved"):
        checkpoints.restore(tmp_path, 4, SHAPES)


def rewrite(file: Path, record: dict[str, Any]) -> None:
    """Write a record with its checksum, as `save` does."""
    file.write_text(json.dumps(add_checksum({name: value for name, value in record.items() if name != "sha256"})))


def another_digest(file: Path) -> None:
    record = json.loads(file.read_text())
    next(iter(record["trees"]["model"].values()))["sha256"] = "0" * 64
    file.write_text(json.dumps(record))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("hurt", [another_digest, a_folder, lambda file: file.write_text("[1]")])
def test_a_hurt_record_is_noticed_and_an_older_step_used(tmp_path: Path, hurt: Callable[[Path], Any]):
    save(tmp_path, 2, 4)
    hurt(tmp_path / "4.json")
    assert checkpoints.set_aside_damaged(tmp_path) == 2


@pytest.mark.parametrize(
    ("reason", "error", "message"),
    [
        ("No space left on device", InputError, "4: No space left on device; free some space"),
        ("Disk quota exceeded", InputError, "4: Disk quota exceeded; free some of your quota"),
        ("Too many open files", ValueError, "Too many open files"),
    ],
)
def test_a_full_disk_is_told_in_one_line(
    reason: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise ValueError(f"RESOURCE_EXHAUSTED: Error writing: {reason}")

    monkeypatch.setattr(ocp.Checkpointer, "save", full)
    with pytest.raises(error, match=message):
        save(tmp_path, 4)
    assert checkpoints.list_steps(tmp_path) == []


def test_a_record_without_its_digest_is_told_of_as_such(tmp_path: Path):
    save(tmp_path, 4)
    record = json.loads((tmp_path / "4.json").read_text())
    del record["sha256"]
    (tmp_path / "4.json").write_text(json.dumps(record))
    with pytest.raises(Damaged, match="of an earlier version of asdjax"):
        checkpoints.restore(tmp_path, 4, SHAPES)


@pytest.mark.parametrize("hurt", ["truncated JSON", "no arrays", "no tree"])
def test_a_step_with_something_missing_is_damaged(tmp_path: Path, hurt: str):
    save(tmp_path, 4)
    record = tmp_path / "4.json"
    if hurt == "truncated JSON":
        record.write_text(record.read_text()[:40])
    elif hurt == "no arrays":
        (tmp_path / "4" / "model").rename(tmp_path / "elsewhere")
    else:
        rewrite(record, {"step": 4, "files": {"model": {}, "optimizer": {}}, "trees": {}})
    with pytest.raises(Damaged, match=r"4\.json: |is missing|arrays differ"):
        checkpoints.restore(tmp_path, 4, SHAPES)


def test_arrays_of_another_shape_or_none_are_named(tmp_path: Path):
    save(tmp_path, 4)
    wider = {"model": {"net": {**SHAPES["model"]["net"], "early/bias": jax.ShapeDtypeStruct((4,), jnp.float32)}}}
    with pytest.raises(Damaged, match=r"expected .*early/bias.* to be \(\(4,\).*, got \(\(3,\).*\(1 arrays differ\)"):
        checkpoints.restore(tmp_path, 4, wider)
    more = {"model": {"net": {**SHAPES["model"]["net"], "late/bias": jax.ShapeDtypeStruct((4,), jnp.float32)}}}
    with pytest.raises(Damaged, match=r"late/bias.*, got None"):
        checkpoints.restore(tmp_path, 4, more)


def test_the_newest_step_is_read_for_its_digests_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, 4)
    read, hash_files = [], checkpoints._hash_files
    monkeypatch.setattr(checkpoints, "_hash_files", lambda folder: read.append(folder.name) or hash_files(folder))
    assert checkpoints.set_aside_damaged(tmp_path) == 4
    checkpoints.restore_verified(tmp_path, 4, SHAPES)
    assert sorted(read) == sorted(TREES)


def test_where_every_step_is_damaged_it_is_an_input_error(tmp_path: Path):
    save(tmp_path, 2, 4)
    for step in (2, 4):
        flip_a_byte(tmp_path, step)
    for _ in range(2):  # the damaged steps stay, and no new phase begins
        with pytest.raises(InputError, match="damage in every saved step"):
            checkpoints.set_aside_damaged(tmp_path)
