"""Tasks: the machine types and classes of each fleet, and the held-out clips."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asdjax.data.clips import Clip, Corpus
from asdjax.data.tasks import Task, hold_out, make_tasks
from asdjax.errors import InputError


def clip(machine: str, section: str, domain: Any = "source", *, split: Any = "train", label: Any = "normal", **a: str):
    return Clip(Path(f"{machine}_{section}_{domain}.wav"), machine, section, split, domain, label, tuple(a.items()))


def corpus(*clips: Clip) -> Corpus:
    return Corpus("manifest", clips)


TWO_MACHINES = (clip("fan", "00"), clip("fan", "01"), clip("pump", "00"), clip("pump", "03", "source"))


def names(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    return [(c.machine, c.section) for c in clips]


def test_machine_types_of_several_sections_are_tasks_of_their_own_with_sections_as_classes() -> None:
    fan, pump = make_tasks(corpus(*TWO_MACHINES), "auto")
    assert (fan.name, fan.machines, fan.classes) == ("fan", ("fan",), (("fan", "00"), ("fan", "01")))
    assert (pump.name, pump.machines, pump.classes) == ("pump", ("pump",), (("pump", "00"), ("pump", "03")))
    assert names(pump.clips) == [("pump", "00"), ("pump", "03")]
    assert pump.class_of_clip == (0, 1)
    assert pump.section_of_class == (0, 1)


def test_one_machine_type_of_one_section_brings_all_together_in_one_fleet() -> None:
    (task,) = make_tasks(corpus(*TWO_MACHINES, clip("valve", "00")), "auto")
    assert task.name == "all"
    assert task.machines == ("fan", "pump", "valve")
    assert task.classes == (("fan", "00"), ("fan", "01"), ("pump", "00"), ("pump", "03"), ("valve", "00"))


def test_a_single_section_is_told_apart_by_its_attributes() -> None:
    clips = [clip("fan", "00", speed="1", load="2"), clip("fan", "00", speed="2", load="2"), clip("fan", "00")]
    (task,) = make_tasks(corpus(*clips, clips[0]), "auto")
    assert task.classes == (("fan", "00", ""), ("fan", "00", "speed=1;load=2"), ("fan", "00", "speed=2;load=2"))
    assert task.class_of_clip == (1, 2, 0, 1)
    assert task.section_of_class == (0, 0, 0)


def test_the_choice_of_classes_can_be_told() -> None:
    (together,) = make_tasks(corpus(*TWO_MACHINES), "machine_section")
    assert together.classes == (("fan", "00"), ("fan", "01"), ("pump", "00"), ("pump", "03"))
    with_attributes = [clip("fan", "00", speed="1"), clip("fan", "00", speed="2"), clip("pump", "00", speed="1")]
    (task,) = make_tasks(corpus(*with_attributes), "machine_section_attributes")
    assert task.section_of_class == (0, 0, 1)


def test_test_clips_are_no_part_of_a_task() -> None:
    tasks = make_tasks(corpus(*TWO_MACHINES, clip("fan", "02", split="test", label="anomaly")), "auto")
    assert all(c.split == "train" for task in tasks for c in task.clips)
    assert len(tasks[0].classes) == 2


def test_a_section_of_target_clips_only_is_a_class_and_no_part_of_an_epoch() -> None:
    fan, _ = make_tasks(corpus(*TWO_MACHINES, clip("fan", "02", "target"), clip("fan", "02", "target")), "auto")
    assert fan.classes[-1] == ("fan", "02")
    assert fan.source_clips == 2


@pytest.mark.parametrize(
    ("clips", "classes", "got"),
    [
        ([clip("fan", "00")] * 4, "auto", "only fan 00"),
        ([clip("fan", "00"), *[clip("fan", "01", "target")] * 3], "auto", "only fan 00"),
        ([clip("fan", "00", "target"), *[clip("fan", "01", "target")] * 3], "auto", "no class"),
        ([*TWO_MACHINES, *[clip("valve", "00")] * 4], "section", "only valve 00"),
    ],
    ids=["one section", "one with source clips", "none with source clips", "classes by section"],
)
def test_fewer_than_two_classes_have_no_models_and_no_held_out_clips(clips: list[Clip], classes: str, got: str) -> None:
    *others, task = make_tasks(corpus(*clips), classes)
    assert not task.has_models
    assert all(other.has_models for other in others)
    seen, remedy = task.explain_no_models()
    assert seen.endswith(f"and {got} has source training clips")
    assert remedy.startswith("for models add a second section")
    assert hold_out(task, 0.5) == (task, replace(task, clips=(), class_of_clip=()))


def test_an_anomaly_among_the_training_clips_is_refused_by_its_path() -> None:
    with pytest.raises(InputError, match=r"fan_00_source\.wav: expected normal training clips only.*move it"):
        make_tasks(corpus(*TWO_MACHINES, clip("fan", "00", label="anomaly")), "auto")


def test_no_training_clips_are_refused() -> None:
    with pytest.raises(InputError, match="expected training clips, got none"):
        make_tasks(corpus(clip("fan", "00", split="test")), "auto")


def recorded(numbers: dict[tuple[str, str], int], folder: str = "a") -> Task:
    """Make a task with the given number of clips per section and domain."""
    clips = [
        Clip(Path(folder, f"{section}_{domain}_{i:02}.wav"), "fan", section, "train", domain, "normal", ())
        for (section, domain), number in numbers.items()
        for i in range(number)
    ]
    (task,) = make_tasks(corpus(*clips), "section")
    return task


NUMBERS = {("00", "source"): 10, ("00", "target"): 3, ("01", "source"): 19, ("01", "target"): 5}


def test_a_share_of_each_class_and_domain_is_held_out_and_never_trained_on() -> None:
    task = recorded(NUMBERS)
    trained, held_out = hold_out(task, 0.2)
    assert {*trained.clips, *held_out.clips} == {*task.clips}
    assert len(trained.clips) + len(held_out.clips) == len(task.clips)
    counts = {key: sum((clip.section, clip.domain) == key for clip in held_out.clips) for key in NUMBERS}
    assert counts == {("00", "source"): 2, ("00", "target"): 0, ("01", "source"): 3, ("01", "target"): 1}
    for part in (trained, held_out):
        assert part.classes == task.classes
        assert [part.classes[k][1] for k in part.class_of_clip] == [clip.section for clip in part.clips]


def test_which_clips_are_held_out_depends_on_their_names_alone() -> None:
    chosen = [
        {clip.name for clip in hold_out(task, 0.2)[1].clips}
        for task in (recorded(NUMBERS), recorded(dict(reversed(NUMBERS.items())), folder="elsewhere"))
    ]
    assert chosen[0] == chosen[1]
    firsts = {f"{section}_{domain}_{i:02}.wav" for (section, domain), n in NUMBERS.items() for i in range(int(0.2 * n))}
    assert chosen[0] != firsts


def test_a_share_is_rounded_down_as_written_in_decimals() -> None:
    _, held_out = hold_out(recorded({("00", "source"): 100, ("01", "source"): 50}), 0.29)
    assert [sum(clip.section == section for clip in held_out.clips) for section in ("00", "01")] == [29, 14]


def test_nothing_held_out_is_the_task_itself() -> None:
    task = recorded(NUMBERS)
    trained, held_out = hold_out(task, 0.0)
    assert trained == task
    assert held_out.clips == ()


def test_a_share_of_less_than_a_clip_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"fraction: expected one clip or more .* of task fan, got 0.05 of 19, the largest;"
    ):
        hold_out(recorded(NUMBERS), 0.05)
