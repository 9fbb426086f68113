"""How many fleets are stacked: as many as are asked for, or on a GPU as many as fit."""

from pathlib import Path

import pytest

from asdjax import parallel
from asdjax.config import Config, default
from asdjax.corpus.clips import Clip
from asdjax.corpus.tasks import Task
from asdjax.training.runs import Run
from asdjax.training.stacks import MOST, stack_size, stacks_of

H200, SMALL = 100e9, 12e9


def asked(stacked: int = 0, **fields: float) -> Config:
    config = default()
    config.parallel.stacked = stacked
    for field, value in fields.items():
        config[field] = value
    return config


@pytest.mark.parametrize(("stacked", "fleets", "size"), [(1, 7, 1), (3, 7, 3), (9, 7, 7)])
def test_what_is_asked_for_is_stacked_if_it_is_there(stacked: int, fleets: int, size: int):
    assert stack_size(asked(stacked), fleets, 1) == size


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_nothing_is_stacked_unasked_where_that_is_slower(platform: str):
    with parallel.compiling_for(platform):
        assert stack_size(asked(), 7, 1, H200) == 1


@pytest.mark.parametrize(
    ("fleets", "devices", "memory_bytes", "changed", "size"),
    [
        (7, 1, H200, {}, 7),
        (3, 1, H200, {}, 3),
        (23, 1, H200, {}, MOST),
        (7, 1, SMALL, {}, 2),
        (7, 2, SMALL, {}, 5),
        (7, 1, SMALL, {"width": 0.5}, 5),
        (7, 1, SMALL / 10, {}, 1),
    ],
)
def test_a_gpu_gets_as_many_as_its_memory_holds(
    fleets: int, devices: int, memory_bytes: float, changed: dict[str, float], size: int
):
    with parallel.compiling_for("gpu"):
        assert stack_size(asked(**changed), fleets, devices, memory_bytes) == size


def test_every_row_of_devices_gets_its_part():
    config = asked()
    config.parallel.tasks_at_once = 4
    with parallel.compiling_for("gpu"):
        assert stack_size(config, 7, 1, H200) == 2


def test_only_fleets_of_equal_classes_share_a_stack():
    def run(name: str, sections: int) -> Run:
        classes = tuple((name, f"{section:02}") for section in range(sections))
        clip = Clip(Path("a.wav"), name, "00", "train", "source", "normal")
        return Run(name, Task(name, (name,), classes, (clip,), (0,), tuple(range(sections))), 0, Path(name))

    runs = [run("fan", 2), run("pump", 1), run("valve", 2), run("slider", 2)]
    names = [[run.task.name for run in stack] for stack in stacks_of(asked(2), runs, 1)]
    assert names == [["fan", "valve"], ["slider"], ["pump"]]
