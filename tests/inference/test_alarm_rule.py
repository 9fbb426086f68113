"""Alarms: n of m scores begin one, and it lasts until none of m is above the threshold."""

import pytest

from asdjax.errors import InputError
from asdjax.inference.alarm_rule import AlarmRule, AlarmState


def states(rule: AlarmRule, scores: list[float]) -> str:
    state = AlarmState(rule, threshold=1.0)
    return "".join("!" if state.update(score)[0] else "." for score in scores)


@pytest.mark.parametrize(
    ("rule", "scores", "expected"),
    [
        (AlarmRule(1, 1, 1), [0, 2, 0, 2, 2, 0], ".!.!!."),
        (AlarmRule(2, 3, 1), [2, 0, 0, 2, 0, 2, 0, 0, 0], ".....!!!."),
        (AlarmRule(3, 5, 1), [2, 2, 0, 0, 2, 0, 0, 0, 0, 0, 2], "....!!!!!.."),
        (AlarmRule(1, 1, 3), [0, 0, 4, 0, 0, 0], "..!!!."),
        (AlarmRule(1, 1, 1), [1.0, 1.0001], ".!"),
    ],
)
def test_an_alarm_begins_by_n_of_m_and_ends_when_none_is_above(rule: AlarmRule, scores: list[float], expected: str):
    assert states(rule, scores) == expected


def test_smoothing_averages_the_last_scores():
    state = AlarmState(AlarmRule(1, 1, 3), 1.0)
    assert [state.update(score)[1] for score in (3.0, 6.0, 9.0, 0.0)] == [3.0, 4.5, 6.0, 5.0]


def test_a_restart_forgets_scores_and_alarm():
    state = AlarmState(AlarmRule(2, 2, 1), 1.0)
    assert [state.update(2.0)[0], state.update(2.0)[0]] == [False, True]
    state.restart()
    assert state.update(2.0) == (False, 2.0)


def test_rules_are_parsed():
    assert AlarmRule.parse("2/4", 1) == AlarmRule(2, 4, 1)
    for text in ("4/2", "0/3", "3", "3/5/7", "-1/3", "a/b", "\uff13/5", "1/1001", (3, 5)):
        with pytest.raises(InputError, match=r"alarm: expected N/M"):
            AlarmRule.parse(text, 1)  # pyright: ignore[reportArgumentType]
    for smooth in (0, 1001, 1.5):
        with pytest.raises(InputError, match="smooth: expected a number of scores from 1 to 1000, got"):
            AlarmRule.parse("3/5", smooth)  # pyright: ignore[reportArgumentType]
