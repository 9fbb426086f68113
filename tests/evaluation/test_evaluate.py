"""`asdjax evaluate` on a trained work directory: its files, its errors, equal bytes when repeated."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import train_tiny, untrained

from asdjax.cli.main import main

pytestmark = pytest.mark.usefixtures("shallow")

VARIANTS = ["resnet50_512"]
ENSEMBLES = ["best_single", "top3_mean", "top5_mean", "all_mean", "combined"]
SIMPLE = ["mean_log_mel", "mean_std_log_mel"]


def evaluate(workdir: Path, *words: str) -> int:
    return main(["evaluate", "--workdir", str(workdir), *words])


def results(workdir: Path, split: str = "dev") -> dict:
    return json.loads((workdir / "evaluation" / split / "results.json").read_text())


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(workdir: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one error line of a refused evaluation. Nothing may be written."""
    before = contents(workdir)
    capsys.readouterr()
    assert evaluate(workdir, *words) == 2
    assert contents(workdir) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_results_and_score_files(trained_once: Path, corpus: Path):
    folder = trained_once / "evaluation" / "dev"
    got = results(trained_once)
    assert (got["year"], got["split"]) == (2021, "dev")
    assert got["checkpoints"] == {"fan/phase2_full": 3}
    assert got["config"]["evaluate"]["threshold_per"] == "machine"
    assert "settings" not in got  # config has them
    assert list(got["systems"]) == [*VARIANTS, *ENSEMBLES, *SIMPLE]
    for name, system in got["systems"].items():
        assert system["selection"] == ("labelled test" if name in ENSEMBLES[:3] else "none")
        assert [(cell["section"], cell["domain"]) for cell in system["cells"]] == [
            (section, domain) for section in ("00", "01") for domain in ("source", "target")
        ]
    assert {path.name for path in (folder / "scores").iterdir()} == {*VARIANTS, *ENSEMBLES, *SIMPLE}
    places = [f"fan_section_{s}_{d}_test.csv" for s in ("00", "01") for d in ("source", "target")]
    for system in (folder / "scores").iterdir():
        expected = {f"{kind}_{place}" for kind in ("anomaly_score", "decision_result") for place in places}
        assert {path.name for path in system.iterdir()} == expected
    scores = table(folder / "scores" / "all_mean" / f"anomaly_score_{places[1]}")
    decisions = table(folder / "scores" / "all_mean" / f"decision_result_{places[1]}")
    clips = sorted(path.name for path in (corpus / "fan" / "target_test").glob("section_00_*"))
    assert [name for name, _ in scores] == [name for name, _ in decisions] == clips
    assert len(clips) == 6
    (threshold,) = [limit["value"] for limit in got["systems"]["all_mean"]["thresholds"] if limit["machine"] == "fan"]
    for (_, score), (_, decision) in zip(scores, decisions, strict=True):
        assert decision == str(int(float(score) > threshold))


def test_the_challenges_own_way_of_judging_gives_the_same_figures(trained_once: Path, tmp_path: Path):
    folder = trained_once / "evaluation" / "dev" / "scores"
    for name, system in results(trained_once)["systems"].items():
        words = ["--year", "2021", "--scores", str(folder / name), "--json", str(tmp_path / "metrics.json")]
        assert main(["metrics", *words]) == 0
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert metrics["official"] == pytest.approx(system["official"], abs=1e-9)
        assert metrics["cells"] == system["cells"]


def test_two_evaluations_are_equal_byte_for_byte(trained: Path, trained_once: Path):
    shutil.rmtree(trained / "evaluation")
    assert evaluate(trained) == 0
    assert contents(trained / "evaluation") == contents(trained_once / "evaluation")


@pytest.mark.parametrize("classes", ["section", pytest.param("machine_section", marks=pytest.mark.slow)])
def test_other_recordings_than_were_trained_on_are_refused_and_no_store_is_touched(
    classes: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Change clips of two machine types, including a test clip, for separate fleets and for a shared one."""
    trained_on, changed = tmp_path / "here", tmp_path / "changed"
    for machine in ("fan", "pump"):
        shutil.copytree(corpus / "fan", trained_on / machine)
    run = untrained(trained_on, tmp_path / "run", data__classes=classes)
    assert evaluate(run) == 0
    shutil.copytree(trained_on, changed)
    for folder in ("fan/source_test", "pump/train"):
        first, second, *_ = sorted((changed / folder).iterdir())
        shutil.copy(second, first)
    before = contents(run)
    capsys.readouterr()
    assert evaluate(run, f"--config.data.root={changed}") == 2
    assert contents(run) == before
    assert "1 changed" in capsys.readouterr().err


def list_files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_linked_checkpoints_that_may_only_be_read_are_judged_without_their_store(
    trained_once: Path, trained: Path, tmp_path: Path
):
    shutil.rmtree(trained / "store")
    shutil.rmtree(trained / "evaluation")
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in trained.iterdir():
        (mine / path.name).symlink_to(path)
    before = list_files(trained)
    for path in trained.rglob("*"):
        path.chmod(path.stat().st_mode & 0o555)  # root may write all the same: so the files are compared too
    assert main(["evaluate", "--workdir", str(mine)]) == 0
    for path in trained.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    assert list_files(trained) == before
    results = (folder / "evaluation" / "dev" / "results.json" for folder in (mine, trained_once))
    assert len({path.read_bytes() for path in results}) == 1


def test_the_report_of_an_earlier_evaluation_is_said_to_be_gone(trained: Path, capsys: pytest.CaptureFixture[str]):
    (trained / "evaluation" / "dev" / "report.html").write_text("")
    capsys.readouterr()
    assert evaluate(trained) == 0
    assert "The report of the earlier evaluation was removed" in capsys.readouterr().out
    assert evaluate(trained) == 0
    assert "report.html" not in capsys.readouterr().out


def test_a_step_of_ones_choice_is_judged(trained: Path, trained_once: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(trained, "--step", "2") == 0
    assert results(trained)["checkpoints"] == {"fan/phase2_full": 2}
    scores = Path("evaluation", "dev", "scores")
    assert contents(trained / scores) != contents(trained_once / scores)
    line = refusal(trained, capsys, "--step", "7")
    assert "step 7: expected one of 2, 3" in line
    assert "phase2_full" in line


def test_two_lines_make_models_of_their_own(corpus: Path, trained: Path, trained_once: Path):
    """Only the models of the second line get its name as suffix."""
    assert train_tiny(corpus, trained, evaluate__lines="phase1,phase2_full") == 0
    assert evaluate(trained) == 0
    both = [*VARIANTS, *(f"{variant}@phase2_full" for variant in VARIANTS)]
    got = results(trained)
    assert list(got["systems"]) == [*both, *ENSEMBLES, *SIMPLE]
    assert got["systems"]["all_mean"]["members"] == {"fan": both}
    assert got["checkpoints"] == {"fan/phase1": 6, "fan/phase2_full": 3}
    folder, file = Path("evaluation", "dev", "scores"), "anomaly_score_fan_section_00_source_test.csv"
    assert table(trained / folder / both[1] / file) == table(trained_once / folder / VARIANTS[0] / file)
    models = [[float(score) for _, score in table(trained / folder / name / file)] for name in both]
    mean = [float(score) for _, score in table(trained / folder / "all_mean" / file)]
    assert mean == pytest.approx([sum(pair) / 2 for pair in zip(*models, strict=True)])


def test_how_clips_are_scored_can_be_told_for_one_evaluation(trained: Path, trained_once: Path):
    assert evaluate(trained, "--config.evaluate.k=1") == 0
    scores = Path("evaluation", "dev", "scores", "all_mean")
    assert contents(trained / scores) != contents(trained_once / scores)
    assert evaluate(trained) == 0
    assert contents(trained / scores) == contents(trained_once / scores)


@pytest.mark.parametrize(
    ("words", "expected"),
    [  # each section has four source clips and two target clips, of one piece each
        (["k=5"], ""),
        (["k=6"], "k = 6 (config.evaluate.k) pieces of other clips: fan 00 (5), fan 01 (5);"),
        (["k=3", "bank=either_domain"], "pieces of other clips: fan 00 target (1), fan 01 target (1);"),
        (["k=6", "smote_ratio=0.5"], "pieces of other clips, without those that SMOTE adds: fan 00 (5), fan 01 (5);"),
        (["k=6", "backend=mahalanobis"], ""),
    ],
)
def test_banks_with_fewer_pieces_than_are_averaged_are_named(
    words: list[str], expected: str, trained: Path, capsys: pytest.CaptureFixture[str]
):
    capsys.readouterr()
    assert evaluate(trained, *(f"--config.evaluate.{word}" for word in words)) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("banks with fewer than k")]
    assert len(lines) == bool(expected)
    assert all(expected in line for line in lines)


def test_what_training_has_settled_cannot_be_told(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert "config.width: expected a field that may change here" in refusal(trained, capsys, "--config.width=0.5")


@pytest.mark.parametrize("words", [[], ["--watch"]])
def test_how_baselines_are_trained_cannot_be_told_without_them(
    words: list[str], trained: Path, capsys: pytest.CaptureFixture[str]
):
    line = refusal(trained, capsys, *words, "--config.baselines.epochs=3")
    assert "config.baselines.epochs: expected an evaluation with baselines" in line


def test_a_training_that_was_ended_early_is_judged_and_it_is_said(trained: Path, capsys: pytest.CaptureFixture[str]):
    (trained / "fan" / "phase2_full" / "3.json").unlink()
    assert evaluate(trained) == 0
    assert "fan phase2_full: evaluated at step 2 of 3, where its training was stopped" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["phase2_full,phase2_last_block", "phase2_last_block,phase2_full"])
def test_a_line_that_is_not_trained_is_named(
    lines: str, corpus: Path, trained: Path, capsys: pytest.CaptureFixture[str]
):
    assert train_tiny(corpus, trained, evaluate__lines=lines) == 0
    shutil.rmtree(trained / "fan" / "phase2_last_block")
    assert "expected checkpoints of phase2_last_block, got none" in refusal(trained, capsys)


def test_a_directory_without_a_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "got no such file; give the work directory of one" in refusal(tmp_path, capsys)


def test_a_training_that_has_not_come_far_enough_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "fan" / "phase2_full")
    assert "run asdjax train again, which goes on" in refusal(trained, capsys)


def test_a_damaged_checkpoint_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "fan" / "phase2_full" / "3")
    assert "is missing; run asdjax train again" in refusal(trained, capsys)


def test_without_unlabelled_clips_there_is_no_evaluation_split(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert "expected unlabelled test clips for the split eval" in refusal(trained, capsys, "--split", "eval")


def test_banks_by_domain_are_refused_from_2022_on(
    corpus: Path, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
):
    """Copy the clips to folders of 2022, where the domain of test clips is no input."""
    test = tmp_path / "later" / "fan" / "test"
    shutil.copytree(corpus / "fan" / "train", test.parent / "train")
    for domain in ("source_test", "target_test"):
        shutil.copytree(corpus / "fan" / domain, test, dirs_exist_ok=True)
    config = json.loads((trained / "config.json").read_text())
    config["data"]["root"] = [str(tmp_path / "later")]
    config["evaluate"]["bank"] = "same_domain"
    (trained / "config.json").write_text(json.dumps(config))
    assert "same_domain needs the domain of a test clip" in refusal(trained, capsys)


def test_banks_by_domain_give_other_scores(corpus: Path, trained: Path, trained_once: Path):
    assert train_tiny(corpus, trained, evaluate__bank="same_domain") == 0
    assert evaluate(trained) == 0
    file = Path("evaluation", "dev", "scores", "all_mean", "anomaly_score_fan_section_00_target_test.csv")
    assert table(trained / file) != table(trained_once / file)
