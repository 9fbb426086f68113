"""The amount of training that a configuration asks for."""

from pathlib import Path

import pytest

from asdjax.config.fields import default_config
from asdjax.perf.workload import Work, make_work


def test_what_does_not_exist_yet_is_planned_at_the_size_of_2021():
    work = make_work(default_config())
    assert work.origin == "data not found: assumes the number and length of 2021's clips"
    assert (len(work.task.classes), len(work.task.clips), set(work.lengths)) == (6, 6018, {160_000})
    # 250 epochs of 6,000 source clips at a batch of 48, and 5,000 steps on the target domain, of seven machine types
    assert work.kinds == (7 * ((250 * 6000 // 48, 5000),),)
    assert (work.fleets, work.steps) == (7, 253_750)


def test_clips_are_counted_as_they_lie_there(corpus: Path):
    config = default_config()
    config.data.root = (str(corpus),)
    work = make_work(config)
    assert work.origin == str(corpus)
    assert (len(work.task.clips), set(work.lengths)) == (2 * (4 + 2), {32_000})


@pytest.fixture(scope="module")
def work_of_2021() -> Work:
    return make_work(default_config())


@pytest.mark.parametrize(
    ("sizes", "device_groups", "steps"),
    [((1, 1), 1, 26), ((1, 1), 2, 15), ((2, 1), 1, 20), ((2, 1), 2, 12), ((3, 1), 1, 19), ((4, 1), 1, 14)],
)
def test_a_stack_goes_on_until_its_longest_fleet_is_done(
    sizes: tuple[int, int], device_groups: int, steps: int, work_of_2021: Work
):
    # Four fleets share a kind. With one fleet per program and two device groups, the first group takes 5 + 1 and then
    # 4 + 1 steps, the second 1 + 2, 7 and 4 + 1.
    work = work_of_2021._replace(kinds=(((5, 1), (1, 2), (7, 0), (4, 1)), ((4, 1),)))
    assert work.consecutive_steps(sizes, device_groups) == steps
