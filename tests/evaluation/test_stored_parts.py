"""Evaluation by parts: what each part prepares, and what the evaluation of all runs takes of it."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import SHALLOW, shallow_networks, untrained

from asdjax.cli.main import main
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.evaluation import evaluate as evaluation
from asdjax.evaluation import stored_parts
from asdjax.evaluation.subject import Subject
from asdjax.fleet import checkpoints
from asdjax.runtime.files import locked_folder

pytestmark = pytest.mark.usefixtures("shallow")

MACHINES = ("fan", "pump", "valve")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory of three fleets with two seeds each, not evaluated, and its recordings in `data`."""
    folder = tmp_path_factory.mktemp("three")
    synthesize(
        folder / "data",
        Recipe(source_clips=4, target_clips=2, test_clips=2, sections=2, seconds=2.0),
        machines=MACHINES,
    )
    with shallow_networks():
        return untrained(folder / "data", folder / "run", seed="0,1", width=str(SHALLOW))


@pytest.fixture
def run(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "run"))


def evaluate(workdir: Path, *words: str) -> int:
    return main(["evaluate", "--workdir", str(workdir), *words])


def read_results(workdir: Path) -> dict:
    return json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())


def test_gathered_parts_give_the_results_of_one_process(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    assert evaluate(whole) == 0
    for part in ("1/4", "0/4", "3/4", "2/4"):
        assert evaluate(run, "--part", part) == 0
    prepared = run / "evaluation" / "dev" / "prepared"
    assert sorted(path.name for path in prepared.iterdir()) == sorted(f"{m}@{s}" for m in MACHINES for s in (0, 1))
    assert not (run / "evaluation" / "dev" / "results.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "score_run", lambda *_: pytest.fail("scored again"))
        patch.setattr(Subject, "verify", lambda *_: pytest.fail("read again"))
        assert evaluate(run) == 0
    assert read_results(run) == read_results(whole)
    assert not prepared.exists()
    for file in (whole / "evaluation" / "dev" / "embeddings").rglob("*.npy"):
        assert (run / file.relative_to(whole)).read_bytes() == file.read_bytes()


def test_what_is_missing_or_was_made_otherwise_is_scored_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert evaluate(run, "--only", "fan@0,pump@1,valve@0") == 0
    (run / "evaluation" / "dev" / "prepared" / "pump@1" / "key.json").write_text("{}")
    record = run / "valve@0" / "phase2_full"
    (last,) = checkpoints.list_steps(record)
    shutil.copytree(run / "valve@1" / "phase2_full", record, dirs_exist_ok=True)  # other models at the same step
    assert checkpoints.list_steps(record) == [last]
    scored, score_run = [], evaluation.score_run
    monkeypatch.setattr(
        evaluation, "score_run", lambda config, run, *rest: scored.append(run.name) or score_run(config, run, *rest)
    )
    assert evaluate(run) == 0
    assert sorted(scored) == ["fan@1", "pump@0", "pump@1", "valve@0", "valve@1"]
    assert "1 of 6 runs are prepared with the present settings, models, recordings and" in capsys.readouterr().err
    assert evaluate(run, "--part", "0/3", "--config.evaluate.k=1") == 0
    assert evaluate(run) == 0
    assert len(scored) == 5 + 2 + 6


def test_what_is_prepared_otherwise_meanwhile_is_not_taken(run: Path, monkeypatch: pytest.MonkeyPatch):
    assert evaluate(run, "--only", "fan@0") == 0
    take, reference = stored_parts.take, Path(shutil.copytree(run, run.with_name("reference")))
    assert evaluate(reference) == 0

    def take_later(evaluation_folder: Path, name: str, key: str, into: Path) -> bool:
        if name == "fan@0":
            with stored_parts.preparing(evaluation_folder, name, "other settings"):
                pass
        return take(evaluation_folder, name, key, into)

    monkeypatch.setattr(stored_parts, "take", take_later)
    assert evaluate(run) == 0
    assert read_results(run) == read_results(reference)
    assert (run / "evaluation" / "dev" / "prepared" / "fan@0" / "key.json").exists()


def test_a_killed_preparation_is_begun_again(run: Path):
    folder = run / "evaluation" / "dev" / "prepared" / "fan@0"
    (folder / "phase1").mkdir(parents=True)
    (folder / "key.json.partial").write_text("{")
    assert evaluate(run, "--only", "fan@0") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["key.json", "phase2_full"]


@pytest.mark.parametrize("words", [("--only", "fan@0"), ()])
def test_a_baseline_is_computed_from_verified_recordings_only(run: Path, words: tuple[str, ...]):
    assert evaluate(run, "--only", "fan@0,fan@1") == 0
    (store,) = (run / "store" / "fan").glob("samples-*")
    content = bytearray(store.read_bytes())
    content[:8000] = bytes(8000)
    store.write_bytes(content)
    shutil.rmtree(run / "evaluation" / "baselines")
    assert evaluate(run, *words) == 2


def test_a_part_without_test_clips_of_the_split_is_prepared(run: Path, tmp_path: Path, three: Path):
    data = Path(shutil.copytree(three.parent / "data", tmp_path / "data"))
    for folder in ("source_test", "target_test"):
        shutil.rmtree(data / "pump" / folder)
    assert evaluate(run, "--only", "pump@0", f"--config.data.root={data}") == 0


def test_a_part_that_another_process_prepares_ends_with_again(run: Path):
    with locked_folder(run / "evaluation" / "dev" / stored_parts.FOLDER / "fan@0"):
        assert evaluate(run, "--only", "fan@0") == 75
    assert evaluate(run, "--only", "fan@0") == 0
    assert evaluate(run, "--only", "fan@2") == 2


def test_machine_types_can_be_left_out_of_an_evaluation(run: Path, three: Path):
    """For example one whose data are bad, which training left out."""
    shutil.rmtree(run / "pump@0")
    assert evaluate(run) == 2
    assert evaluate(run, "--config.data.machines=fan,valve") == 0
    assert set(read_results(run)["models"]) == {"fan", "valve"}
