"""Runs in one program: the configured number, or on a GPU as many as fit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asdjax.config.fields import Config, default_config
from asdjax.data.access import Recording
from asdjax.data.clips import Clip
from asdjax.data.tasks import Task
from asdjax.fleet import training_set
from asdjax.fleet.runs import Run, list_lines
from asdjax.runtime import hardware
from asdjax.training import programs
from asdjax.training.audio_feed import DEVICE_SHARE
from asdjax.training.programs import MOST_FLEETS, ProgramRuns, choose_fleets_per_program, make_programs

H200, SMALL = 100e9, 18.5e9


def config_with(fleets_per_program: int = 0, **fields: object) -> Config:
    config = default_config()
    config.parallel.fleets_per_program = fleets_per_program
    for field, value in fields.items():
        group, _, name = field.rpartition("__")
        (config[group] if group else config)[name] = value
    return config


@pytest.mark.parametrize(("configured", "fleets", "size"), [(1, 7, 1), (3, 7, 3), (3, 4, 2), (9, 7, 7)])
def test_the_configured_number_is_split_evenly(configured: int, fleets: int, size: int):
    assert choose_fleets_per_program(config_with(configured), fleets, 1, 1) == size


@pytest.mark.parametrize(("platform", "memory_bytes"), [("cpu", H200), ("tpu", H200), ("gpu", None)])
def test_other_devices_have_one_fleet_per_program(platform: str, memory_bytes: float | None):
    with hardware.compiling_for(platform, memory_bytes):
        assert choose_fleets_per_program(config_with(), 7, 1, 1) == 1


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
    assert max(7, fleets) - 1 <= MOST_FLEETS
    with hardware.compiling_for("gpu", memory_bytes):
        assert choose_fleets_per_program(config_with(**changed), fleets, devices, 1) == size


@pytest.mark.parametrize(("resident", "share", "size"), [("auto", 0.35, 2), ("auto", 1.1, 7), ("host", 0.35, 7)])
def test_a_program_leaves_its_audio_on_the_gpu(resident: str, share: float, size: int):
    """If the audio of one fleet does not fit, it is streamed, and does not count."""
    config = config_with(data__resident=resident)
    with hardware.compiling_for("gpu", H200):
        assert choose_fleets_per_program(config, 4 if size == 2 else 7, 1, share * DEVICE_SHARE * H200) == size


def test_every_group_of_devices_gets_its_part():
    config = config_with(parallel__device_groups=4)
    with hardware.compiling_for("gpu", H200):
        assert choose_fleets_per_program(config, 7, 1, 1) == 2


def run(name: str, sections: int, folder: Path) -> Run:
    classes = tuple((name, f"{section:02}") for section in range(sections))
    clips = tuple(Clip(Path("a.wav"), name, section, "train", "source", "normal") for _, section in classes)
    task = Task(name, (name,), classes, clips, tuple(range(sections)), tuple(range(sections)))
    return Run(name, task, 0, folder / name)


def names(programs: Sequence[ProgramRuns]) -> list[list[str]]:
    return [[run.name for run in program.runs] for program in programs]


def test_only_fleets_of_equal_classes_share_a_program(tmp_path: Path):
    runs = [run(*each, tmp_path) for each in (("fan", 2), ("pump", 1), ("valve", 2), ("slider", 2))]
    found = make_programs(config_with(2), runs, 1, dict.fromkeys(("fan", "pump", "valve", "slider"), 1.0))
    assert names(found) == [["fan", "valve"], ["slider"], ["pump"]]


def test_finished_runs_share_no_program_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, runs = config_with(3), [run(name, 2, tmp_path) for name in ("fan", "pump", "valve")]
    there = {runs[1].folder / line: [1, last] for line, last in list_lines(config, runs[1].task).items()}
    monkeypatch.setattr(programs.checkpoints, "list_steps", lambda folder: there.get(folder, []))
    assert names(make_programs(config, runs, 1, dict.fromkeys(("fan", "pump", "valve"), 1.0))) == [
        ["fan", "valve"],
        ["pump"],
    ]


def test_runs_share_a_program_by_the_memory_of_each_device(tmp_path: Path):
    runs = [run(name, 2, tmp_path) for name in ("fan", "pump", "valve", "slider", "gearbox")]
    audio = dict.fromkeys((run.name for run in runs), 1.0)
    with hardware.compiling_for("gpu", SMALL):
        assert [len(program.runs) for program in make_programs(config_with(), runs, 1, audio)] == [2, 2, 1]
        assert [len(program.runs) for program in make_programs(config_with(), runs, 2, audio)] == [5]


def save_manifest(of: Run, group_size: int, checkpoints: int) -> None:
    training_set.save(config_with(), of, [Recording(np.zeros(4, np.int16), "0" * 64)] * len(of.task.clips), group_size)
    (of.folder / "phase1").mkdir()
    for step in range(1, 1 + checkpoints):
        (of.folder / "phase1" / f"{step}.json").touch()


def test_a_run_keeps_the_group_size_of_its_first_checkpoint(tmp_path: Path):
    begun, fresh, without_checkpoint = (run(name, 2, tmp_path) for name in ("fan", "pump", "valve"))
    save_manifest(begun, 6, checkpoints=1)
    save_manifest(without_checkpoint, 6, checkpoints=0)
    audio = {"fan": 1.0, "pump": 1.0, "valve": 1.0}
    programs = make_programs(config_with(2), [begun, fresh, without_checkpoint], 1, audio)
    assert [(program.name, program.variants_per_group) for program in programs] == [("fan", 6), ("pump+valve", 1)]


@pytest.mark.parametrize(("stored", "configured"), [(6, 0), (0, 6), (0, 2)])
def test_fleets_of_larger_groups_are_counted_at_their_memory(stored: int, configured: int):
    """7 x 48 pieces of 375 MB are more than 40 % of an H200."""
    with hardware.compiling_for("gpu", H200):
        assert choose_fleets_per_program(config_with(), 7, 1, 1) == 7
        assert choose_fleets_per_program(config_with(train__variants_per_group=configured), 7, 1, 1, stored) == 2
