"""The training-set manifest: a fleet refuses other clips and settings, and the error names them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.access import Recording
from asdjax.data.clips import Clip, Corpus
from asdjax.data.tasks import Task, make_tasks
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, training_set
from asdjax.fleet.checkpoints import Origin
from asdjax.fleet.runs import Run
from asdjax.runtime.files import add_checksum


def task(root: str, *names: str, sections: tuple[str, ...] = ("00", "01")) -> Task:
    clips = [Clip(Path(root, s, n), "fan", s, "train", "source", "normal") for s in sections for n in names]
    (one,) = make_tasks(Corpus("manifest", tuple(clips)), "section")
    return one


def run(trained: Task, folder: Path, seed: int = 0) -> Run:
    return Run("fan", trained, seed, folder)


def save(folder: Path, trained: Task) -> None:
    training_set.save(default_config(), run(trained, folder), recordings(trained), 1)


def require_same(folder: Path, now: Task, found: dict[Path, str]) -> None:
    training_set.require_same(default_config(), run(now, folder), found)


def recordings(now: Task, changed: str = "") -> list[Recording]:
    return [Recording(np.zeros(1, np.int16), "new" if clip.name == changed else clip.name) for clip in now.clips]


def digests(now: Task, changed: str = "") -> dict[Path, str]:
    return {clip.path: one.sha256 for clip, one in zip(now.clips, recordings(now, changed), strict=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained = task("here", "a.wav", "b.wav")
    save(tmp_path / "fan", trained)
    return tmp_path / "fan"


def test_the_same_clips_in_another_place_are_the_same(folder: Path):
    moved = task("there", "a.wav", "b.wav")
    require_same(folder, moved, digests(moved))


def test_before_training_anything_will_do(tmp_path: Path):
    require_same(tmp_path, task("here", "a.wav"), {})


@pytest.mark.parametrize(
    ("now", "changed", "message"),
    [
        (task("here", "a.wav", "b.wav", "c.wav"), "", r"2 new \(such as fan/00/source/c.wav\)"),
        (task("here", "a.wav"), "", r"2 missing \(such as fan/00/source/b.wav\)"),
        (task("here", "a.wav", "b.wav"), "b.wav", r"2 changed \(such as fan/00/source/b.wav\)"),
        (task("here", "a.wav", "b.wav", sections=("00", "02")), "", "2 new .*, 2 missing "),
    ],
)
def test_other_clips_are_refused(folder: Path, now: Task, changed: str, message: str):
    with pytest.raises(InputError, match=f"task.json: .*got others: .*{message}.*; restore them"):
        require_same(folder, now, digests(now, changed))


def test_another_class_of_the_same_clip_is_noticed(tmp_path: Path):
    def classify(*values: str) -> Task:
        clips = [
            Clip(Path(f"{i}.wav"), "fan", "00", "train", "source", "normal", (("v", value),))
            for i, value in enumerate(values)
        ]
        (one,) = make_tasks(Corpus("manifest", tuple(clips)), "machine_section_attributes")
        return one

    before, now = classify("1", "2"), classify("2", "1")
    save(tmp_path, before)
    with pytest.raises(InputError, match="2 changed"):
        require_same(tmp_path, now, digests(now))


@pytest.mark.parametrize("damage", [lambda text: "{", lambda text: text.replace("a.wav", "q.wav")])
def test_a_damaged_record_is_told(folder: Path, damage: Callable[[str], str]):
    file, now = folder / "task.json", task("here", "a.wav", "b.wav")
    file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match="damaged"):
        require_same(folder, now, digests(now))


def test_clips_of_one_name_are_told_apart(tmp_path: Path):
    twins = Corpus(
        "manifest",
        tuple(
            Clip(Path(where, "a.wav"), "fan", section, "train", "source", "normal")
            for section in ("00", "01")
            for where in ("x", "y")
        ),
    )
    (both,) = make_tasks(twins, "section")
    save(tmp_path, both)
    require_same(tmp_path, both, digests(both))
    (one,) = make_tasks(Corpus("manifest", twins.clips[:3]), "section")
    with pytest.raises(InputError, match="1 missing"):
        require_same(tmp_path, one, digests(one))


@pytest.mark.parametrize(
    ("field", "value", "seed", "message"),
    [
        ("width", 0.5, 0, r"width \(trained with 1\.0, now 0\.5\)"),
        ("signal", {"value": "power"}, 0, r"signal\.value \(trained with 'log', now 'power'\)"),
        (
            "variants",
            ("resnet50_512",),
            0,
            r"variants \(trained with \['mobilefacenet_1024', .*now \['resnet50_512'\]\)",
        ),
        ("width", 1.0, 7, r"seed \(trained with 0, now 7\)"),
    ],
)
def test_settings_that_a_fleet_was_not_trained_by_are_refused(
    field: str, value: Any, seed: int, message: str, folder: Path
):
    """Happens if config.json was edited or lost, or a fleet was copied from another work directory."""
    same, config = task("here", "a.wav", "b.wav"), default_config()
    config.update({field: value})
    with pytest.raises(InputError, match=f"task.json: expected the settings .* got others in config.json: {message}; "):
        training_set.require_same(config, run(same, folder, seed), digests(same))


def test_what_changes_no_fleet_may_differ_from_its_training(folder: Path):
    same, config = task("here", "a.wav", "b.wav"), default_config()
    config.update({"evaluate": {"k": 3}, "train": {"keep": 5}, "data": {"machines": ("fan",)}, "seed": (0, 1)})
    training_set.require_same(config, run(same, folder), digests(same))


def test_a_field_that_is_newer_has_its_default_in_a_training_before_it(folder: Path):
    same, file = task("here", "a.wav", "b.wav"), folder / "task.json"
    content = json.loads(file.read_text())
    del content["sha256"], content["settings"]["mixup.labels"]
    file.write_text(json.dumps(add_checksum(content)))
    require_same(folder, same, digests(same))
    config = default_config()
    config.mixup.labels = "dominant"
    with pytest.raises(InputError, match=r"mixup\.labels"):
        training_set.require_same(config, run(same, folder), digests(same))


def test_without_its_record_a_fleet_is_of_the_clips_that_its_checkpoints_know(folder: Path):
    same, other = task("here", "a.wav", "b.wav"), task("here", "a.wav", "c.wav")
    origin = Origin(training_set.digest_manifest(folder), None)
    checkpoints.save(folder / "phase1", 1, {"model": {"a": np.zeros(1)}}, 1, origin)
    (folder / "task.json").unlink()
    require_same(folder, same, digests(same))
    with pytest.raises(
        InputError, match=r"task\.json: expected this file or the training clips of phase1, got other clips; "
    ):
        require_same(folder, other, digests(other))
    with pytest.raises(InputError, match="other clips"):
        require_same(folder, same, digests(same, changed="b.wav"))
