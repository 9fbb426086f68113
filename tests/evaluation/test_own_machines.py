"""Own machines without test clips or with normal ones only, and with several seeds, from `evaluate` to `export`."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from conftest import SHALLOW, shallow_networks, untrained
from jax import export as jax_export

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.access import RecordedClips, open_corpus
from asdjax.data.clips import Clip, Corpus
from asdjax.data.store import WaveStore
from asdjax.data.tasks import Task
from asdjax.evaluation import clip_table, score_runs
from asdjax.fleet import checkpoints
from asdjax.inference import export, stored_results

SECTIONS = ("weights", "01")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with shallow_networks():
        yield


def recorded(corpus: Path, folder: Path, tests: str = "") -> Path:
    """Copy clips of the synthetic machine and list them in a manifest: training clips, and test clips of a label."""
    rows = [["path", "machine", "section", "domain", "split", "label", "attributes"]]
    for path in sorted(corpus.rglob("*.wav")):
        _, section, domain, split, label, *_ = path.stem.split("_")
        if split == "train" or label == tests:
            shutil.copy(path, folder)
            rows.append([path.name, "fan", SECTIONS[int(section)], domain, split, label, ""])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def evaluated(recordings: Path, workdir: Path, **changes: str) -> Path:
    untrained(recordings, workdir, width=str(SHALLOW), **changes)
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def normal_only(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work directory of two models, evaluated without test clips."""
    recordings = recorded(corpus, tmp_path_factory.mktemp("own"))
    return evaluated(recordings, tmp_path_factory.mktemp("own-run") / "run", variants="resnet50_512,resnet50_1024")


@pytest.fixture(scope="module")
def two_seeds(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work directory of two seeds, evaluated on normal clips only."""
    recordings = recorded(corpus, tmp_path_factory.mktemp("normal"), "normal")
    return evaluated(recordings, tmp_path_factory.mktemp("normal-run") / "run", seed="3,1")


def scored(workdir: Path, capsys: pytest.CaptureFixture[str], clips: list[Path], *words: str) -> list[float]:
    capsys.readouterr()
    place = ["--workdir", str(workdir), "--machine", "fan", "--section", "weights"]
    assert main(["score", "--json", *place, *words, *map(str, clips)]) == 0
    return [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]


def called(out: Path, name: str, clips: list[Path]) -> np.ndarray:
    arrays = {**np.load(out / "fan" / "weights.npz"), **np.load(out / "fan" / f"section_{name}.npz")}
    function = jax_export.deserialize(bytearray((out / "fan" / "function.jaxexport").read_bytes()))
    samples = np.stack([soundfile.read(clip, dtype="int16")[0] for clip in clips])
    return np.asarray(jax.jit(function.call)(arrays, samples)["score"])


def test_without_test_clips_there_are_banks_and_thresholds_but_no_figures(normal_only: Path):
    content = stored_results.read_results(stored_results.find_evaluation(normal_only, None))
    for system in content["systems"].values():
        assert (system["official"], system["interval"], system["cells"]) == (None, None, [])
    (limit,) = content["systems"]["all_mean"]["thresholds"]
    assert limit["clips"] == 12
    assert list((normal_only / "evaluation" / "dev" / "scores" / "all_mean").iterdir()) == []


def test_two_models_score_and_are_exported_alike_without_test_clips(
    normal_only: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Both models are of one checkpoint, which must be loaded only once for all sections."""
    clips = sorted((corpus / "fan" / "source_test").glob("section_00_*"))
    expected = scored(normal_only, capsys, clips)
    assert len(set(expected)) == len(clips)
    loaded, restore = [], checkpoints.restore
    monkeypatch.setattr(checkpoints, "restore", lambda *args: loaded.append(args) or restore(*args))
    out = tmp_path / "out"
    assert main(["export", "--workdir", str(normal_only), "--out", str(out), "--seconds", "2"]) == 0
    assert len(loaded) == 1
    assert called(out, "weights", clips) == pytest.approx(expected, abs=1e-5)


def test_without_test_clips_a_report_shows_training_clips_and_thresholds(normal_only: Path):
    assert main(["report", "--workdir", str(normal_only)]) == 0
    page = (normal_only / "evaluation" / "dev" / "report.html").read_text()
    assert "the mean of the scores of the 2 models of each machine type, had no test clips" in page
    assert "Histograms of the scores of fan: 2 sections" in page
    assert "90th percentile" in page


def test_baselines_too_have_thresholds_without_test_clips(normal_only: Path, tmp_path: Path):
    workdir = Path(shutil.copytree(normal_only, tmp_path / "run"))
    assert main(["evaluate", "--workdir", str(workdir), "--baselines", "--config.baselines.epochs=1"]) == 0
    systems = stored_results.read_results(stored_results.find_evaluation(workdir, None))["systems"]
    for name in ("autoencoder", "mean_log_mel"):
        assert (systems[name]["official"], systems[name]["cells"]) == (None, [])
        (limit,) = systems[name]["thresholds"]
        assert (limit["clips"], limit["value"] > 0) == (12, True)


def test_where_banks_go_by_domain_each_domain_is_exported(
    normal_only: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir, out = Path(shutil.copytree(normal_only, tmp_path / "run")), tmp_path / "out"
    assert main(["evaluate", "--workdir", str(workdir), "--config.evaluate.bank=same_domain"]) == 0
    words = ["--system", "resnet50_512"]
    assert main(["export", "--workdir", str(workdir), "--out", str(out), "--seconds", "2", *words]) == 0
    clips = sorted((corpus / "fan" / "target_test").glob("section_00_*"))
    for domain in ("source", "target"):
        expected = scored(workdir, capsys, clips, *words, "--domain", domain)
        assert called(out, f"weights_{domain}", clips) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("split", "expected"), [("dev", [False]), ("eval", [False, True])])
def test_clips_of_the_other_split_are_embedded_only_where_they_rank_models(
    split: str, expected: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(score_runs, "read_recordings", lambda *_: [])
    clips = [
        Clip(tmp_path / f"{blind}.wav", "fan", "00", "test", "source", None if blind else "normal", blind=blind)
        for blind in (False, True)
    ]
    task = Task("fan", ("fan",), (), (), (), ())
    recorded = score_runs.read_clips({}, Corpus("manifest", tuple(clips)), task, split, RecordedClips([], []))
    assert [clip.blind for clip in recorded["test"].clips] == expected


def test_seeds_share_what_their_clips_hold(two_seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each clip is verified by its digest only once for all fleets."""
    verified, verify = [], WaveStore.verify
    monkeypatch.setattr(WaveStore, "verify", lambda store, i: verified.append(store.clips[i]) or verify(store, i))
    run = Path(shutil.copytree(two_seeds, tmp_path / "run"))
    assert main(["evaluate", "--workdir", str(run)]) == 0
    assert len(verified) == len(set(verified)) == len(open_corpus(loading.read(run)))


def test_a_machine_type_cannot_take_the_examples_place():
    for name in ("example.py", "Example.py", "..", "a/b", ""):
        with pytest.raises(export.InputError, match="expected a machine type"):
            export._check_file_name(name)


@pytest.mark.parametrize("clips", [1, 2])
def test_a_section_of_one_or_two_clips_is_scored_without_a_density(
    clips: int, corpus: Path, two_seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A single clip has no score of its own, and so its section needs the machine type's threshold."""
    config = json.loads((two_seeds / "config.json").read_text())
    (root,) = config["data"]["root"]
    rows = list(csv.reader((Path(root) / "manifest.csv").read_text().splitlines()))
    of_section = [row for row in rows if row[2] == "01" and row[4] == "train" and row[3] == "source"]
    kept = [row for row in rows if row[2] != "01" or row[4] != "train" or row in of_section[:clips]]
    folder = Path(shutil.copytree(root, tmp_path / "own"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(kept)
    workdir = untrained(folder, tmp_path / "run", width=str(SHALLOW), phase2__strategies="full")
    capsys.readouterr()
    assert main(["check", "--config", "own_machines", f"--config.data.root={folder}"]) == 0
    assert ("one training clip: the section gets no threshold" in flat(capsys.readouterr().out)) == (clips == 1)
    assert main(["check", "--config", "dcase2021", f"--config.data.root={folder}"]) == 0
    assert "one training clip" not in capsys.readouterr().out
    words = ["evaluate", "--workdir", str(workdir), "--config.evaluate.backend=knn_density"]
    per = "machine" if clips == 1 else "section"
    assert main([*words, f"--config.evaluate.threshold_per={per}"]) == 0
    assert "banks of fewer than 3 clips, which knn_density scores as knn: fan 01" in capsys.readouterr().err
    section = stored_results.read_results(workdir / "evaluation" / "dev")["systems"]["all_mean"]
    assert section["unscored_training_clips"] == {"fan": 1 if clips == 1 else 0}


def flat(text: str) -> str:
    return " ".join(text.split())


def test_faults_are_mixed_in_for_the_systems_of_all_seeds_too(two_seeds: Path, tmp_path: Path):
    """The report shows that of the system that `score` uses, beside that of the seed of its clips."""
    workdir = Path(shutil.copytree(two_seeds, tmp_path / "run"))
    words = ["--sensitivity", "--config.evaluate.sensitivity_clips=2", "--config.evaluate.system=combined"]
    assert main(["evaluate", "--workdir", str(workdir), *words]) == 0
    measured = stored_results.read_results(workdir / "evaluation" / "dev")["sensitivity"]
    assert measured.keys() >= {"all_mean@3", "all_mean@1", "combined@3", "all_seeds_mean", "combined_seeds"}
    of_seeds = [measured[f"all_mean@{seed}"]["fan"]["auc"] for seed in (3, 1)]
    assert min(of_seeds) - 0.1 <= measured["all_seeds_mean"]["fan"]["auc"] <= max(of_seeds) + 0.1
    assert main(["report", "--workdir", str(workdir), "--clips", "0"]) == 0
    page = (workdir / "evaluation" / "dev" / "report.html").read_text()
    assert "that combined@3, combined_seeds, all_mean@3, mean_log_mel, mean_std_log_mel find" in page
    assert "asdjax score and export use combined_seeds" in page


def test_normal_test_clips_only_tell_the_false_alarms_of_the_seeds_that_were_judged(two_seeds: Path, tmp_path: Path):
    """The evaluation keeps its seeds after training has begun a third one, in another order."""
    workdir = Path(shutil.copytree(two_seeds, tmp_path / "run"))
    config = json.loads((workdir / "config.json").read_text())
    config["seed"] = [2, 1, 3]
    (workdir / "config.json").write_text(json.dumps(config))
    assert main(["report", "--workdir", str(workdir), "--clips", "0"]) == 0
    page = " ".join((workdir / "evaluation" / "dev" / "report.html").read_text().split())
    assert "scored 12 clips, all of them normal, and calls" in page
    assert "false-alarm rate of" in page
    assert "Tables show means over the seeds 3, 1." in page
    limits = stored_results.select_seed(
        stored_results.read_results(workdir / "evaluation" / "dev")["systems"]["all_mean"], 3
    )["thresholds"]
    assert f"{limits[0]['value']:.4g}" in page


def test_a_system_of_the_table_scores_with_its_first_seed_and_says_so(
    two_seeds: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    clips = sorted((corpus / "fan" / "source_test").glob("section_00_*normal*"))
    first, other = (scored(two_seeds, capsys, clips, "--system", f"resnet50_512@{seed}") for seed in (3, 1))
    assert first != other
    assert (
        main(
            ["score", "--json", "--workdir", str(two_seeds), "--machine", "fan", "--section", "weights"]
            + ["--system", "resnet50_512", *map(str, clips)]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert [json.loads(line)["score"] for line in captured.out.splitlines()] == first
    assert "using resnet50_512@3; also available: resnet50_512@1" in captured.err


def test_the_auto_encoder_alone_is_not_among_the_systems_that_score(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir = Path(shutil.copytree(trained_once, tmp_path / "run"))
    assert main(["evaluate", "--workdir", str(workdir), "--baselines", "--config.baselines.epochs=1"]) == 0
    words = ["score", "--workdir", str(workdir), "--machine", "fan", "--section", "00", "clip.wav"]
    assert main([*words, "--system", "autoencoder"]) == 2
    error = capsys.readouterr().err
    assert "system autoencoder: expected one of" in error
    assert "combined, mean_log_mel, mean_std_log_mel\n" in error


def test_what_is_combined_scores_new_clips_as_the_evaluation_does_with_the_first_seed(
    two_seeds: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    combined = stored_results.read_results(two_seeds / "evaluation" / "dev")["systems"]["combined"]["by_seed"]
    assert combined["3"]["members"] == {"fan": ["resnet50_512@3"]}
    assert combined["3"]["baselines"] == ["mean_log_mel", "mean_std_log_mel"]
    clips = sorted((corpus / "fan" / "source_test").glob("section_00_*normal*"))
    for words, name in (("combined", "combined@3"), ("mean_log_mel", "mean_log_mel")):
        rows = clip_table.read(
            two_seeds / "evaluation" / "dev" / "clips" / f"{name}.csv",
            stored_results.read_results(two_seeds / "evaluation" / "dev")["clips"][name],
        )
        expected = {row.clip.name: row.clip.score for row in rows}
        got = scored(two_seeds, capsys, clips, "--system", words)
        assert got == pytest.approx([expected[clip.name] for clip in clips], rel=1e-3, abs=1e-3)
