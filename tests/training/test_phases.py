"""The two phases as data: which lines a task has, how long they are, what they draw."""

from pathlib import Path

import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip, Corpus
from asdjax.data.tasks import Task, make_tasks
from asdjax.fleet.runs import list_lines, list_target_sections
from asdjax.training import sampler
from asdjax.training.phases import make_phases


def task(*clips: tuple[str, str, str]) -> Task:
    """Clips given by section, domain and attribute."""
    table = [
        Clip(Path(f"{i}.wav"), "fan", section, "train", domain, "normal", (("v", value),))
        for i, (section, domain, value) in enumerate(clips)
    ]
    (one,) = make_tasks(Corpus("manifest", tuple(table)), "machine_section_attributes")
    return one


TWO_SECTIONS = task(("00", "source", "1"), ("01", "source", "1"), ("01", "source", "2"), ("01", "target", "2"))


@pytest.mark.parametrize(
    ("clips", "sections"),
    [
        ([("00", "source", "1"), ("01", "source", "1")], ()),
        ([("00", "source", "1"), ("01", "source", "1"), ("01", "target", "1")], (1,)),
        ([("00", "source", "1"), ("00", "source", "2"), ("00", "target", "9")], ()),  # nothing to mix them with
        ([("00", "source", "1"), ("00", "source", "2"), ("00", "target", "8"), ("00", "target", "9")], (0,)),
    ],
)
def test_phase_2_draws_from_sections_with_target_clips_and_another_class(
    clips: list[tuple[str, str, str]], sections: tuple[int, ...]
):
    assert list_target_sections(task(*clips)) == sections


def test_lines_and_their_lengths():
    config = default_config()
    config.train.batch_size = 2
    config.phase2.strategies = ("arcface", "full")
    assert list_lines(config, TWO_SECTIONS) == {"phase1": 375, "phase2_arcface": 5000, "phase2_full": 5000}
    without = task(("00", "source", "1"), ("01", "source", "1"))
    assert list_lines(config, without) == {"phase1": 250}


def test_every_strategy_starts_from_the_end_of_phase_1_and_draws_target_clips():
    config = default_config()
    config.phase2.strategies = ("arcface", "full")
    plan = sampler.make_table(
        TWO_SECTIONS.class_of_clip, [False, False, False, True], [40] * 4, TWO_SECTIONS.section_of_class
    )
    phase1, *others = make_phases(config, TWO_SECTIONS, plan)
    assert (phase1.name, phase1.after) == ("phase1", None)
    assert [phase.name for phase in others] == ["phase2_arcface", "phase2_full"]
    assert [phase.after for phase in others] == [phase1, phase1]
    assert "arcface" not in others[0].trainable
    assert np.all(np.asarray(phase1.table.targets) == -1)
    assert all(list(np.asarray(phase.table.targets)) == [1, -1] for phase in others)


def test_each_phase_has_its_own_rates_and_length():
    config = default_config()
    config.train.batch_size = 2
    config.optimizer.schedule = "cosine"
    config.phase1.epochs = 8
    config.phase2.epochs = 4.0
    config.phase2.strategies = ("full", "last_block")
    config.phase2.learning_rate.last_block = 0.001
    plan = sampler.make_table(TWO_SECTIONS.class_of_clip, [False] * 3 + [True], [63] * 4, TWO_SECTIONS.section_of_class)
    phases = make_phases(config, TWO_SECTIONS, plan)
    assert [(phase.name, phase.steps, len(phase.rates)) for phase in phases] == [
        ("phase1", 12, 12),
        ("phase2_full", 6, 6),
        ("phase2_last_block", 6, 6),
    ]
    assert [float(phase.rates[0]) for phase in phases] == pytest.approx([0.05, 0.05, 0.001])


def test_an_epoch_counts_what_is_not_held_out():
    config = default_config()
    config.train.batch_size = 1
    config.train.holdout_fraction = 0.5
    config.phase1.epochs = 1
    clips = [(section, "source", "1") for section in ("00", "01") for _ in range(4)]
    assert list_lines(config, task(*clips)) == {"phase1": 4}
