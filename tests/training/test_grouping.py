"""How many fleets are stacked: as many as are asked for, or on a GPU as many as fit."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from asdjax.config.fields import Config, default_config
from asdjax.data.clips import Clip
from asdjax.data.tasks import Task
from asdjax.fleet.runs import Run
from asdjax.runtime import hardware
from asdjax.training import grouping
from asdjax.training.audio_feed import DEVICE_SHARE
from asdjax.training.grouping import MOST, group_runs, stack_size
from asdjax.training.phases import list_lines

H200, SMALL = 100e9, 18.5e9


def asked(stacked: int = 0, **fields: object) -> Config:
    config = default_config()
    config.parallel.fleets_per_program = stacked
    for field, value in fields.items():
        group, _, name = field.rpartition("__")
        (config[group] if group else config)[name] = value
    return config


@pytest.mark.parametrize(("stacked", "fleets", "size"), [(1, 7, 1), (3, 7, 3), (3, 4, 2), (9, 7, 7)])
def test_as_many_as_are_asked_for_are_stacked_evenly(stacked: int, fleets: int, size: int):
    assert stack_size(asked(stacked), fleets, 1, 1) == size


@pytest.mark.parametrize(("platform", "memory_bytes"), [("cpu", H200), ("tpu", H200), ("gpu", None)])
def test_nothing_is_stacked_unasked_where_that_is_slower_or_might_not_fit(platform: str, memory_bytes: float | None):
    with hardware.compiling_for(platform, memory_bytes):
        assert stack_size(asked(), 7, 1, 1) == 1


@pytest.mark.parametrize(
    ("fleets", "devices", "memory_bytes", "changed", "size"),
    [
        (7, 1, H200, {}, 7),
        (3, 1, H200, {}, 3),
        (8, 1, H200, {}, 4),
        (6, 1, SMALL, {}, 2),
        (5, 2, SMALL, {}, 5),
        (5, 1, SMALL, {"width": 0.5}, 5),
        (5, 1, SMALL, {"train__batch_size": 24}, 5),
        (5, 1, SMALL, {"signal__piece_frames": 16}, 5),
        (5, 1, 2 * SMALL, {"train__precision": "float32"}, 2),
        (7, 1, SMALL / 10, {}, 1),
    ],
)
def test_a_gpu_gets_as_many_as_its_memory_holds(
    fleets: int, devices: int, memory_bytes: float, changed: dict[str, object], size: int
):
    assert max(7, fleets) - 1 <= MOST
    with hardware.compiling_for("gpu", memory_bytes):
        assert stack_size(asked(**changed), fleets, devices, 1) == size


@pytest.mark.parametrize(("resident", "share", "size"), [("auto", 0.35, 2), ("auto", 1.1, 7), ("host", 0.35, 7)])
def test_a_stack_does_not_drive_audio_off_the_gpu(resident: str, share: float, size: int):
    """Of a fleet's audio, beside what of the memory is for audio; where one's alone does not fit it is streamed."""
    config = asked(data__resident=resident)
    with hardware.compiling_for("gpu", H200):
        assert stack_size(config, 4 if size == 2 else 7, 1, share * DEVICE_SHARE * H200) == size


def test_every_row_of_devices_gets_its_part():
    config = asked(parallel__tasks_at_once=4)
    with hardware.compiling_for("gpu", H200):
        assert stack_size(config, 7, 1, 1) == 2


def run(name: str, sections: int, folder: Path) -> Run:
    classes = tuple((name, f"{section:02}") for section in range(sections))
    clip = Clip(Path("a.wav"), name, "00", "train", "source", "normal")
    return Run(name, Task(name, (name,), classes, (clip,), (0,), tuple(range(sections))), 0, folder / name)


def names(found: Sequence[Sequence[Run]]) -> list[list[str]]:
    return [[run.name for run in stack] for stack in found]


def test_only_fleets_of_equal_classes_share_a_stack(tmp_path: Path):
    runs = [run(*each, tmp_path) for each in (("fan", 2), ("pump", 1), ("valve", 2), ("slider", 2))]
    found = group_runs(asked(2), runs, 1, dict.fromkeys(("fan", "pump", "valve", "slider"), 1.0))
    assert names(found) == [["fan", "valve"], ["slider"], ["pump"]]


def test_what_is_trained_shares_no_stack_with_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, runs = asked(3), [run(name, 2, tmp_path) for name in ("fan", "pump", "valve")]
    there = {runs[1].folder / line: [1, last] for line, last in list_lines(config, runs[1].task).items()}
    monkeypatch.setattr(grouping.checkpoints, "steps", lambda folder: there.get(folder, []))
    assert names(group_runs(config, runs, 1, dict.fromkeys(("fan", "pump", "valve"), 1.0))) == [
        ["fan", "valve"],
        ["pump"],
    ]


def test_runs_are_stacked_by_the_memory_of_each_device(tmp_path: Path):
    runs = [run(name, 2, tmp_path) for name in ("fan", "pump", "valve", "slider", "gearbox")]
    audio = dict.fromkeys((run.name for run in runs), 1.0)
    with hardware.compiling_for("gpu", SMALL):
        assert [len(stack) for stack in group_runs(asked(), runs, 1, audio)] == [2, 2, 1]
        assert [len(stack) for stack in group_runs(asked(), runs, 2, audio)] == [5]
