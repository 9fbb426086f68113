"""A fleet is refused other clips than it was trained on, and told which."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asdjax.corpus.access import Recording
from asdjax.corpus.clips import Clip, Corpus
from asdjax.corpus.tasks import Task, tasks_of
from asdjax.errors import InputError
from asdjax.training import record


def task(root: str, *names: str, sections: tuple[str, ...] = ("00", "01")) -> Task:
    clips = [Clip(Path(root, s, n), "fan", s, "train", "source", "normal") for s in sections for n in names]
    (one,) = tasks_of(Corpus("manifest", tuple(clips)), "section")
    return one


def recordings(of: Task, changed: str = "") -> list[Recording]:
    return [Recording(np.zeros(1, np.int16), "new" if clip.name == changed else clip.name) for clip in of.clips]


def digests(of: Task, changed: str = "") -> dict[Path, str]:
    return {clip.path: one.sha256 for clip, one in zip(of.clips, recordings(of, changed), strict=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained = task("here", "a.wav", "b.wav")
    record.save(tmp_path / "fan", trained, recordings(trained))
    return tmp_path / "fan"


def test_the_same_clips_in_another_place_are_the_same(folder: Path):
    moved = task("there", "a.wav", "b.wav")
    record.require_same(folder, moved, digests(moved))


def test_before_training_anything_will_do(tmp_path: Path):
    record.require_same(tmp_path, task("here", "a.wav"), {})


@pytest.mark.parametrize(
    ("now", "changed", "told"),
    [
        (task("here", "a.wav", "b.wav", "c.wav"), "", r"2 new \(such as fan/00/source/c.wav\)"),
        (task("here", "a.wav"), "", r"2 missing \(such as fan/00/source/b.wav\)"),
        (task("here", "a.wav", "b.wav"), "b.wav", r"2 changed \(such as fan/00/source/b.wav\)"),
        (task("here", "a.wav", "b.wav", sections=("00", "02")), "", "2 new .*, 2 missing "),
    ],
)
def test_other_clips_are_refused(folder: Path, now: Task, changed: str, told: str):
    with pytest.raises(InputError, match=f"task.json: .*{told}.*; put them back"):
        record.require_same(folder, now, digests(now, changed))


def test_another_class_of_the_same_clip_is_noticed(tmp_path: Path):
    def told_apart(*values: str) -> Task:
        clips = [
            Clip(Path(f"{i}.wav"), "fan", "00", "train", "source", "normal", (("v", value),))
            for i, value in enumerate(values)
        ]
        (one,) = tasks_of(Corpus("manifest", tuple(clips)), "machine_section_attributes")
        return one

    before, now = told_apart("1", "2"), told_apart("2", "1")
    record.save(tmp_path, before, recordings(before))
    with pytest.raises(InputError, match="2 changed"):
        record.require_same(tmp_path, now, digests(now))


@pytest.mark.parametrize("damage", [lambda text: "{", lambda text: text.replace("a.wav", "q.wav")])
def test_a_damaged_record_is_told(folder: Path, damage: Callable[[str], str]):
    file, now = folder / "task.json", task("here", "a.wav", "b.wav")
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match="damaged"):
        record.require_same(folder, now, digests(now))


def test_clips_of_one_name_are_told_apart(tmp_path: Path):
    twins = Corpus(
        "manifest",
        tuple(
            Clip(Path(where, "a.wav"), "fan", section, "train", "source", "normal")
            for section in ("00", "01")
            for where in ("x", "y")
        ),
    )
    (both,) = tasks_of(twins, "section")
    record.save(tmp_path, both, recordings(both))
    record.require_same(tmp_path, both, digests(both))
    (one,) = tasks_of(Corpus("manifest", twins.clips[:3]), "section")
    with pytest.raises(InputError, match="1 missing"):
        record.require_same(tmp_path, one, digests(one))
