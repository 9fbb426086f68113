"""An evaluation opened again: its own scores from its own models and banks."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from asdjax import configfile
from asdjax.config import default
from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation.opened import Evaluation, open_evaluation

VARIANT = "resnet50_512"


def opened(workdir: Path) -> Evaluation:
    return open_evaluation(configfile.read(workdir), workdir, None)


def test_its_members_give_every_test_clip_the_score_that_was_kept(trained_once: Path):
    (checkpoint,) = opened(trained_once).checkpoints("fan", [VARIANT])
    assert (checkpoint.name, checkpoint.step, checkpoint.variants) == ("fan/phase2_full", 3, (VARIANT,))
    test = checkpoint.kept.test
    for number, clip in enumerate(test.clips):
        (member,) = checkpoint.members(clip, "score")
        pieces = member.score(test.pieces.vectors[VARIANT][test.pieces.clip == number])
        assert pieces.mean() == pytest.approx(test.scores[VARIANT][number], abs=1e-6)
        banked = [checkpoint.kept.bank.clips[i] for i in checkpoint.bank_for(clip)]
        assert banked == [other for other in checkpoint.kept.bank.clips if other.section == clip.section]


def test_a_section_without_training_clips_has_no_bank(trained_once: Path):
    (checkpoint,) = opened(trained_once).checkpoints("fan", [VARIANT])
    assert checkpoint.bank_for(Clip(Path("a.wav"), "fan", "07", "test", None, None)) == []


def test_its_configuration_is_the_evaluation_s_and_the_caller_s_stays_as_it_is(trained_once: Path):
    config = configfile.read(trained_once)
    config.evaluate.k = 3
    assert open_evaluation(config, trained_once, None).config.evaluate.k == default().evaluate.k
    assert config.evaluate.k == 3


def test_its_checkpoints_are_loaded_for_the_models_asked_for_or_named_where_they_are_gone(trained: Path):
    (checkpoint,) = opened(trained).checkpoints("fan", [VARIANT])
    spec, model = checkpoint.load()
    assert spec.variants == (VARIANT,)
    assert all(np.isfinite(leaf).all() for leaf in model.parameters[VARIANT].values())
    shutil.rmtree(trained / "fan" / "phase2_full" / "3")
    with pytest.raises(InputError, match="run asdjax evaluate again"):
        checkpoint.load()
