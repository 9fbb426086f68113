"""`asdjax evaluate --watch`: an evaluation of every new checkpoint, until training has ended."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import sleep

import pytest
from conftest import DEEP, PROJECT, overrides

from asdjax.cli.main import main
from asdjax.evaluation import watch_checkpoints
from asdjax.runtime.files import locked_folder

pytestmark = pytest.mark.usefixtures("shallow")

STATES = ["phase1/4.json", "phase1/6.json", "phase2_full/2.json", "phase2_full/3.json"]


def history(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "evaluation" / "dev" / "history.jsonl").read_text().splitlines()]


def looking(workdir: Path) -> Callable[[float], None]:
    """Hide all checkpoints. Return a replacement of `sleep` that restores the next one at each call."""
    run, states = workdir / "fan", iter(STATES)
    for state in STATES:
        (run / state).rename(run / f"{state}.hidden")

    def look(_: float) -> None:
        state = next(states)
        (run / f"{state}.hidden").rename(run / state)

    return look


def test_each_new_checkpoint_is_judged_until_the_last(
    trained: Path, trained_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(watch_checkpoints, "sleep", looking(trained))
    capsys.readouterr()
    with locked_folder(trained / "fan"):
        assert main(["evaluate", "--workdir", str(trained), "--watch"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("no checkpoint yet") == 1
    assert captured.out.count("results, table and score files") == len(STATES)
    rows = history(trained)
    assert [row["checkpoints"] for row in rows] == [
        {"fan/phase1": 4},
        {"fan/phase1": 6},
        {"fan/phase2_full": 2},
        {"fan/phase2_full": 3},
    ]
    assert all(0 <= row["official"]["all_mean"] <= 1 for row in rows)
    results = Path("evaluation", "dev", "results.json")
    assert (trained / results).read_bytes() == (trained_once / results).read_bytes()


def test_it_ends_where_training_was_stopped(trained: Path, capsys: pytest.CaptureFixture[str]):
    (trained / "fan" / "phase2_full" / "3.json").unlink()
    assert main(["evaluate", "--workdir", str(trained), "--watch"]) == 0
    assert [row["checkpoints"] for row in history(trained)] == [{"fan/phase2_full": 2}]
    assert "no training is running any more" in capsys.readouterr().err


def test_without_a_training_or_a_checkpoint_it_says_what_to_do(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    looking(trained)
    assert main(["evaluate", "--workdir", str(trained), "--watch"]) == 2
    assert "expected checkpoints or a running training, got neither; run asdjax train" in capsys.readouterr().err
    (trained / "config.json").unlink()
    looks = []
    monkeypatch.setattr(watch_checkpoints, "sleep", looks.append)
    assert main(["evaluate", "--workdir", str(trained), "--watch"]) == 2
    assert "config.json: expected the configuration of an `asdjax train`, got no such file" in capsys.readouterr().err
    assert len(looks) == watch_checkpoints.LOOKS_FOR_A_START


def test_a_request_that_cannot_be_met_is_refused_before_any_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch_checkpoints, "_wait_for_config", lambda _: pytest.fail("it waits"))
    words = ["evaluate", "--workdir", str(tmp_path / "run"), "--watch", "--config.baselines.epochs=2"]
    assert main(words) == 2


@pytest.mark.parametrize("locked", [True, False], ids=["it decodes audio", "it was just started"])
def test_it_waits_for_a_training_to_write_its_configuration(
    locked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    workdir = tmp_path / "run"
    looks = 2 * watch_checkpoints.LOOKS_FOR_A_START if locked else watch_checkpoints.LOOKS_FOR_A_START - 1
    left = iter(range(looks)[::-1])

    def look(_: float) -> None:
        if next(left) == 0:
            workdir.mkdir(exist_ok=True)
            (workdir / "config.json").touch()

    monkeypatch.setattr(watch_checkpoints, "sleep", look)
    with locked_folder(workdir / "fan") if locked else nullcontext():
        watch_checkpoints._wait_for_config(workdir)
    assert (workdir / "config.json").exists()
    assert "waiting for a training to write it" in capsys.readouterr().err


def test_a_checkpoint_that_is_damaged_ends_it(trained: Path, capsys: pytest.CaptureFixture[str]):
    next((trained / "fan" / "phase2_full" / "3").rglob("d/*")).write_bytes(b"")
    assert main(["evaluate", "--workdir", str(trained), "--watch"]) == 2
    assert "is not what was saved" in capsys.readouterr().err


def test_of_a_damaged_checkpoint_it_says_what_helps(trained: Path, capsys: pytest.CaptureFixture[str]):
    next((trained / "fan" / "phase2_full" / "3").rglob("d/*")).write_bytes(b"")
    assert main(["evaluate", "--workdir", str(trained)]) == 2
    assert "is not what was saved; run asdjax train again" in capsys.readouterr().err
    next((trained / "fan" / "phase2_full" / "2").rglob("d/*")).write_bytes(b"")
    assert main(["evaluate", "--workdir", str(trained), "--step", "2"]) == 2
    assert "is not what was saved; give another step" in capsys.readouterr().err
    shutil.rmtree(trained / "fan" / "phase2_full" / "2")
    (trained / "fan" / "phase2_full" / "2.json").unlink()
    assert main(["evaluate", "--workdir", str(trained)]) == 2
    line = trained / "fan" / "phase2_full"
    assert f"is not what was saved; remove {line} and run asdjax train again" in capsys.readouterr().err


@pytest.mark.slow
def test_beside_a_training(corpus: Path, tmp_path: Path):
    asdjax = [sys.executable, "-c", "from asdjax.cli.main import command; command()"]
    words = ["--workdir", str(tmp_path / "run")]
    changed = overrides(corpus, width=str(DEEP), phase1__steps="40", phase2__steps="20")
    with subprocess.Popen([*asdjax, "train", "--config", "dcase2021", *words, *changed], cwd=PROJECT) as training:
        while not any((tmp_path / "run").glob("fan/phase1/*.json")):
            assert training.poll() is None
            sleep(0.1)
        watching = subprocess.run([*asdjax, "evaluate", "--watch", *words], cwd=PROJECT, check=False)
        assert watching.returncode == 0
    assert training.returncode == 0
    assert history(tmp_path / "run")[-1]["checkpoints"] == {"fan/phase2_full": 20}
