"""An evaluation opened again: its own scores from its own models and banks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import quick_compiles

from asdjax import configfile, parallel
from asdjax.cli import main
from asdjax.config import default
from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import embeddings
from asdjax.evaluation.detector import Part, open_detector
from asdjax.evaluation.export import export
from asdjax.evaluation.opened import Evaluation, open_evaluation
from asdjax.files import sealed, unsealed
from asdjax.training import embed

pytestmark = pytest.mark.usefixtures("quickly_compiled")

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


@pytest.mark.parametrize("command", ["score", "export"])
def test_what_is_evaluated_anew_meanwhile_is_not_mixed_with_what_was(
    command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load, config, out = embeddings.load, configfile.read(trained), tmp_path / "exported"

    def evaluated_anew(*asked):
        file = trained / "evaluation" / "dev" / "results.json"
        file.write_text(json.dumps(sealed({**unsealed(file.read_text()), "precision": "another"})))
        return load(*asked)

    monkeypatch.setattr(embeddings, "load", evaluated_anew)
    opens = {
        "score": lambda: open_detector(config, trained, None, VARIANT, "fan", "00", None),
        "export": lambda: export(config, trained, out, split=None, system=VARIANT, machines=(), seconds=1.0),
    }
    with pytest.raises(InputError, match="was evaluated anew meanwhile"):
        opens[command]()
    assert not out.exists()


def test_its_checkpoints_are_loaded_for_the_models_asked_for_or_named_where_they_are_gone(trained: Path):
    (checkpoint,) = opened(trained).checkpoints("fan", [VARIANT])
    spec, model = checkpoint.load()
    assert spec.variants == (VARIANT,)
    assert all(np.isfinite(leaf).all() for leaf in model.parameters[VARIANT].values())
    shutil.rmtree(trained / "fan" / "phase2_full" / "3")
    with pytest.raises(InputError, match="run asdjax evaluate again"):
        checkpoint.load()


@pytest.fixture(scope="module")
def accelerated(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory whose evaluation took this device for an accelerator; only to be read."""
    workdir = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("accelerated") / "run"))
    with quick_compiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "on_accelerator", lambda: True)
        assert main(["evaluate", "--workdir", str(workdir)]) == 0
    return workdir


def test_models_compute_in_the_precision_that_their_thresholds_were_fitted_in(accelerated: Path, trained_once: Path):
    """train.precision=auto: bfloat16 on an accelerator, float32 here."""
    kept = {
        workdir: json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())["precision"]
        for workdir in (accelerated, trained_once)
    }
    assert kept == {accelerated: "bfloat16", trained_once: "float32"}
    (checkpoint,) = opened(accelerated).checkpoints("fan", [VARIANT])
    there = checkpoint.kept.test.pieces.vectors[VARIANT][:1]
    samples, _ = soundfile.read(checkpoint.kept.test.clips[0].path, dtype="int16")

    def off(part: Part) -> float:
        embedded = embed.embed_clips(part.spec, part.model, [samples], stride_frames=32, batch_size=16, what="embed")
        return float(np.abs(embedded.vectors[VARIANT] - there).max())

    again, other = (
        off(open_detector(configfile.read(workdir), workdir, None, None, "fan", "00", None).parts[0])
        for workdir in (accelerated, trained_once)
    )
    assert again < 1e-6 < 1e-4 < other


def test_it_is_scored_reported_and_exported_in_its_own_precision(
    accelerated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    used: list[str] = []
    for function in ("compiled_embed", "of_magnitudes"):
        embed_with = getattr(embed, function)
        monkeypatch.setattr(
            embed, function, lambda spec, *of, to=embed_with: used.append(spec.precision) or to(spec, *of)
        )
    place = ["--workdir", str(accelerated)]
    clip = str(opened(accelerated).checkpoints("fan", [VARIANT])[0].kept.test.clips[0].path)
    for words in (
        ["score", *place, "--machine", "fan", "--section", "00", clip],
        ["report", *place, "--clips", "1"],
        ["export", *place, "--out", str(tmp_path / "out"), "--seconds", "2"],
    ):
        used.clear()
        assert main(words) == 0
        assert set(used) == {"bfloat16"}
