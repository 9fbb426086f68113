"""Baselines of `asdjax evaluate`: log-mel statistics always, the auto-encoder with --baselines."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import shallow_networks, train_tiny

from asdjax.cli.main import main
from asdjax.evaluation.baselines import autoencoder
from asdjax.inference.stored_results import read_results
from asdjax.runtime.files import compute_sha256

BASELINES = ["mean_log_mel", "mean_std_log_mel", "autoencoder"]
QUICK = ("--baselines", "--config.baselines.epochs=2")

pytestmark = pytest.mark.slow


def evaluate(workdir: Path, *words: str) -> dict:
    with shallow_networks():
        assert main(["evaluate", "--workdir", str(workdir), *words]) == 0
    return json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def with_baselines(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only work directory that was evaluated with baselines."""
    workdir = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("baselines") / "run"))
    evaluate(workdir, *QUICK)
    return workdir


def test_both_stand_beside_systems_that_stay_as_they_are(with_baselines: Path, trained_once: Path):
    got, without = (read_results(workdir / "evaluation" / "dev") for workdir in (with_baselines, trained_once))
    assert list(got["systems"]) == [*without["systems"], "autoencoder"]
    assert list(without["systems"])[-2:] == BASELINES[:2]
    for name in BASELINES:
        system = got["systems"][name]
        assert got["clips"][name] == compute_sha256(with_baselines / "evaluation" / "dev" / "clips" / f"{name}.csv")
        assert system["selection"] == "none"
        assert system["members"] == {"fan": []}
        assert system["baselines"] == [name]
        assert system["unscored_training_clips"] == {"fan": 0}
        assert [limit["clips"] for limit in system["thresholds"]] == [12]
        assert 0 < system["official"] <= 1
    settings = got["baselines"]
    assert (settings["epochs"], settings["batch_size"], settings["seed"]) == (2, 512, 0)
    assert "trained on these clips" in settings["training_scores"]["autoencoder"]
    for results in (got, without):
        del results["baselines"], results["config"]  # config has the epochs of the auto-encoder
    del got["systems"]["autoencoder"], got["clips"]["autoencoder"]
    assert got == without
    table = (with_baselines / "evaluation" / "dev" / "table.md").read_text().partition("| strangest")[0]
    assert [line.split("|")[1].strip() for line in table.splitlines() if "|" in line][-3:] == BASELINES


def test_score_files_and_clip_tables_are_like_every_system_s(with_baselines: Path):
    folder = with_baselines / "evaluation" / "dev"
    for name in BASELINES:
        assert set(contents(folder / "scores" / name)) == set(contents(folder / "scores" / "all_mean"))
        assert len((folder / "clips" / f"{name}.csv").read_text().splitlines()) == 1 + 24 + 12


def test_a_second_evaluation_gives_the_same_bytes_and_one_without_them_leaves_none(
    with_baselines: Path, trained: Path, trained_once: Path
):
    evaluate(trained, *QUICK)
    assert contents(trained / "evaluation") == contents(with_baselines / "evaluation")
    evaluate(trained)
    assert contents(trained / "evaluation" / "dev") == contents(trained_once / "evaluation" / "dev")


def test_the_auto_encoder_is_trained_once_and_anew_by_other_settings(
    with_baselines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    workdir = Path(shutil.copytree(with_baselines, tmp_path / "run"))
    fits, fit = [], autoencoder.fit
    monkeypatch.setattr(autoencoder, "fit", lambda *args: fits.append(args) or fit(*args))
    evaluate(workdir, *QUICK)
    assert fits == []
    assert contents(workdir / "evaluation") == contents(with_baselines / "evaluation")
    assert "fan autoencoder: already trained on these clips with these settings" in capsys.readouterr().err
    evaluate(workdir, "--baselines", "--config.baselines.epochs=1")
    assert len(fits) == 1
    scores = Path("evaluation", "dev", "scores", "autoencoder")
    assert contents(workdir / scores) != contents(with_baselines / scores)


def test_several_seeds_have_the_same_baselines_trained_once(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir = tmp_path / "seeds"
    with shallow_networks():
        assert train_tiny(corpus, workdir, seed="3,4", phase1__steps="1", phase2__strategies="") == 0
    capsys.readouterr()
    got = evaluate(workdir, *QUICK)
    assert capsys.readouterr().err.count("fan autoencoder") == 1
    assert got["baselines"]["seed"] == 3
    scores = workdir / "evaluation" / "dev" / "scores"
    assert {"all_mean@3", "all_mean@4", *BASELINES} <= {path.name for path in scores.iterdir()}
    for name in BASELINES:
        assert got["systems"][name]["thresholds"]
        assert "spread" not in got["systems"][name]
