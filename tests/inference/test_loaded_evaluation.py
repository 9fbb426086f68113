"""Loaded evaluations: they reproduce their scores, and models of another training are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import shallow_networks, untrained

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, embed
from asdjax.inference import stored_embeddings
from asdjax.inference.detector import CheckpointModels
from asdjax.inference.export import export
from asdjax.inference.loaded_evaluation import Evaluation, open_evaluation
from asdjax.inference.loaded_system import DetectorSource, open_detector
from asdjax.runtime import hardware
from asdjax.runtime.files import add_checksum, verify_checksum

pytestmark = pytest.mark.usefixtures("shallow")

VARIANT = "resnet50_512"


def opened(workdir: Path) -> Evaluation:
    return open_evaluation(workdir, None)


def test_its_members_give_every_test_clip_the_score_that_was_kept(trained_once: Path):
    (checkpoint,) = opened(trained_once).checkpoints("fan", [VARIANT])
    assert (checkpoint.name, checkpoint.step, checkpoint.variants) == ("fan/phase2_full", 3, (VARIANT,))
    test = checkpoint.kept.test
    for number, clip in enumerate(test.clips):
        (member,) = checkpoint.members(clip, "score")
        pieces = member.normalise(member.scorer(test.pieces.vectors[VARIANT][test.pieces.clip == number]))
        assert pieces.mean() == pytest.approx(test.scores[VARIANT][number], abs=1e-6)
        banked = [checkpoint.kept.bank.clips[i] for i in checkpoint.bank_for(clip)]
        assert banked == [other for other in checkpoint.kept.bank.clips if other.section == clip.section]


def test_a_section_without_training_clips_has_no_bank(trained_once: Path):
    (checkpoint,) = opened(trained_once).checkpoints("fan", [VARIANT])
    assert checkpoint.bank_for(Clip(Path("a.wav"), "fan", "07", "test", None, None)) == []


@pytest.mark.parametrize(
    "change", [None, {"width": 0.5}, {"signal": {"value": "power"}}, {"variants": ["resnet50_1024"]}]
)
def test_its_configuration_is_the_evaluation_s_whatever_config_json_holds_now(
    change: dict | None, trained: Path, trained_once: Path
):
    config = trained / "config.json"
    if change is None:
        config.unlink()
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), "evaluate": {"k": 3}, **change}))
    assert opened(trained).config.to_dict() == {
        **loading.read(trained_once).to_dict(),
        "train": {**loading.read(trained_once).train.to_dict(), "precision": "float32"},
    }


@pytest.mark.parametrize("command", ["score", "export"])
def test_what_is_evaluated_anew_meanwhile_is_not_mixed_with_what_was(
    command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load, out = stored_embeddings.load, tmp_path / "exported"

    def evaluate_again(*args):
        file = trained / "evaluation" / "dev" / "results.json"
        file.write_text(json.dumps(add_checksum({**verify_checksum(file.read_text()), "precision": "another"})))
        return load(*args)

    monkeypatch.setattr(stored_embeddings, "load", evaluate_again)
    opens = {
        "score": lambda: open_detector(DetectorSource(opened(trained), VARIANT, "fan", "00", None)),
        "export": lambda: export(trained, out, split=None, system=VARIANT, machines=(), seconds=1.0),
    }
    with pytest.raises(InputError, match="got a newer one"):
        opens[command]()
    assert not out.exists()


def test_its_checkpoints_are_loaded_for_the_models_asked_for_or_named_where_they_are_gone(trained: Path):
    (checkpoint,) = opened(trained).checkpoints("fan", [VARIANT])
    spec, model = checkpoint.load()
    assert spec.variants == (VARIANT,)
    assert all(np.isfinite(leaf).all() for leaf in model.parameters[VARIANT].values())
    shutil.rmtree(trained / "fan" / "phase2_full" / "3")
    with pytest.raises(InputError, match="run asdjax train again, and then asdjax evaluate"):
        checkpoint.load()


@pytest.fixture(scope="module")
def accelerated(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only work directory whose evaluation took this device for an accelerator."""
    workdir = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("accelerated") / "run"))
    with shallow_networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "on_accelerator", lambda: True)
        assert main(["evaluate", "--workdir", str(workdir)]) == 0
    return workdir


def test_models_compute_in_the_precision_that_their_thresholds_were_fitted_in(accelerated: Path, trained_once: Path):
    """With train.precision=auto it is bfloat16 on an accelerator and float32 here."""
    precisions = {
        workdir: json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())["precision"]
        for workdir in (accelerated, trained_once)
    }
    assert precisions == {accelerated: "bfloat16", trained_once: "float32"}
    (checkpoint,) = opened(accelerated).checkpoints("fan", [VARIANT])
    stored = checkpoint.kept.test.pieces.vectors[VARIANT][:1]
    samples, _ = soundfile.read(checkpoint.kept.test.clips[0].path, dtype="int16")

    def deviation(part: CheckpointModels) -> float:
        embedded = embed.embed_clips(part.spec, part.model, [samples], stride_frames=32, batch_size=16, what="embed")
        return float(np.abs(embedded.vectors[VARIANT] - stored).max())

    again, other = (
        deviation(open_detector(DetectorSource(opened(workdir), None, "fan", "00", None)).parts[0])
        for workdir in (accelerated, trained_once)
    )
    assert again < 1e-6 < 1e-4 < other


def test_it_is_scored_reported_and_exported_in_its_own_precision(
    accelerated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    used: list[str] = []
    for function in ("jit_embed", "embed_magnitudes"):
        embed_with = getattr(embed, function)
        monkeypatch.setattr(
            embed, function, lambda spec, *args, to=embed_with: used.append(spec.precision) or to(spec, *args)
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


def trained_again(workdir: Path, corpus: Path, seed: int) -> None:
    """Replace the fleets of a work directory by those of another seed, trained to the same steps."""
    other = untrained(corpus, workdir.with_name("again"), seed=str(seed))
    for name in ("fan", "config.json"):
        if (workdir / name).is_dir():
            shutil.rmtree(workdir / name)
        (other / name).replace(workdir / name)


COMMANDS = {
    "score": ["--machine", "fan", "--section", "00"],
    "export": ["--seconds", "2", "--out"],
    "report": ["--clips", "0"],
}


@pytest.mark.parametrize(
    "command", ["score", *(pytest.param(name, marks=pytest.mark.slow) for name in ("export", "report"))]
)
def test_models_that_were_trained_again_are_not_joined_to_an_old_evaluation(
    command: str, trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    last = {"score": [str(next(corpus.rglob("*.wav")))], "export": [str(tmp_path / "out")], "report": []}[command]
    words = [command, "--workdir", str(trained), *COMMANDS[command], *last]
    assert main(words) == 0
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    (trained / "evaluation" / "dev" / "report.html").unlink(missing_ok=True)
    trained_again(trained, corpus, seed=5)
    before = sorted(path.name for path in (trained / "evaluation" / "dev").iterdir())
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if "trained again" in line]
    assert f"{trained / 'fan' / 'phase2_full'}: expected step 3 as it was evaluated" in line
    assert "fan was trained again since; run asdjax evaluate again" in line
    assert captured.out == ""
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in (trained / "evaluation" / "dev").iterdir()) == before
    assert main(["evaluate", "--workdir", str(trained)]) == 0
    assert main(words) == 0


def test_the_same_models_trained_again_are_the_evaluation_s(trained_once: Path, corpus: Path, tmp_path: Path):
    """Files of a checkpoint differ between saves, but its arrays do not."""
    first, second = (untrained(corpus, tmp_path / name) for name in ("first", "second"))
    assert main(["evaluate", "--workdir", str(first)]) == 0
    shutil.rmtree(first / "fan")
    (second / "fan").replace(first / "fan")
    (checkpoint,) = opened(first).checkpoints("fan", [VARIANT])
    assert checkpoint.is_there()
    assert checkpoint.load().spec.variants == (VARIANT,)


def test_a_checkpoint_that_is_replaced_while_an_evaluation_runs_is_refused(
    trained: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    restore, before = checkpoints.restore, (trained / "evaluation" / "dev" / "results.json").read_bytes()

    def replace_first(*args: Any) -> Any:
        monkeypatch.setattr(checkpoints, "restore", restore)
        trained_again(trained, corpus, seed=5)
        return restore(*args)

    monkeypatch.setattr(checkpoints, "restore", replace_first)
    assert main(["evaluate", "--workdir", str(trained)]) == 2
    assert "fan was trained again since; run asdjax evaluate again" in capsys.readouterr().err
    assert (trained / "evaluation" / "dev" / "results.json").read_bytes() == before


def test_a_report_shows_no_training_curves_where_the_judged_checkpoint_is_gone(
    trained: Path, capsys: pytest.CaptureFixture[str]
):
    """metrics.jsonl may then be of another training."""
    words = ["report", "--workdir", str(trained), "--clips", "0"]
    assert main(words) == 0
    page = trained / "evaluation" / "dev" / "report.html"
    assert "Training curves of fan" in page.read_text()
    shutil.rmtree(trained / "fan" / "phase2_full")
    assert main(words) == 0
    assert "Training curves of fan" not in page.read_text()
    assert "the report has no training curves of this run" in capsys.readouterr().err


def test_seeds_that_were_added_since_change_no_evaluation(trained_once: Path, trained: Path):
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps({**config, "seed": [0, 1, 2]}))
    assert opened(trained).config.seed == (0,)
