"""Which steps a dispatch runs: to the next log, checkpoint or end, of every task of a stack."""

from collections.abc import Sequence

import pytest

from asdjax.config.fields import default_config
from asdjax.training.dispatches import Dispatch, is_due, plan_dispatches


@pytest.mark.parametrize(
    ("step", "every", "last", "expected"), [(3, 3, 10, True), (4, 3, 10, False), (10, 3, 10, True), (1, 1, 5, True)]
)
def test_cadence(step: int, every: int, last: int, expected: bool):
    assert is_due(step, every, last) is expected


def dispatches(first: Sequence[int], last: Sequence[int], most: int) -> list[Dispatch]:
    config = default_config()
    config.train.log_every_steps = 10
    config.train.checkpoint_every_steps = 25
    return list(plan_dispatches(config, first, last, most))


def test_a_dispatch_ends_where_something_is_due_or_the_program_does():
    ends = [(of[0], steps) for of, steps in dispatches([0], [42], 8)]
    assert ends == [(0, 8), (8, 2), (10, 8), (18, 2), (20, 5), (25, 5), (30, 8), (38, 2), (40, 2)]


def test_what_is_done_needs_no_dispatch():
    assert dispatches([42, 30], [42, 30], 8) == []


def test_tasks_of_a_stack_move_together_each_to_its_own_end():
    """The second goes on from an earlier step, the third is done, the first ends early."""
    found = dispatches([20, 15, 7], [22, 30, 7], 50)
    assert found == [((20, 15, 7), 2), ((22, 17, 7), 3), ((22, 20, 7), 5), ((22, 25, 7), 5)]
