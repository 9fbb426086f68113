"""Training as a user runs it: stopped and killed anywhere, resumed to the same bits, refused where it cannot go on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, RECIPE, overrides, python, shallow_networks, train_tiny, untrained, with_these_networks

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.synthetic.synthesis import synthesize
from asdjax.errors import Diverged
from asdjax.fleet import checkpoints, fleet_model
from asdjax.fleet.metric_log import MetricLog, read
from asdjax.runtime import interrupts
from asdjax.runtime.files import locked_folder
from asdjax.runtime.interrupts import GracefulShutdown
from asdjax.training import holdout, loop
from asdjax.training.step import StepMetrics
from asdjax.training.train import run_on_each, train

pytestmark = pytest.mark.usefixtures("shallow")

VARIANTS = ("resnet50_512",)
LINES = ("phase1", "phase2_full", "phase2_last_block")

SIGNALLED_AFTER_LOG = """
import os, sys
from asdjax.cli.main import main
from asdjax.fleet.metric_log import MetricLog
from asdjax.training.checkpoint_saver import CheckpointSaver

start = CheckpointSaver.start
CheckpointSaver.start = lambda self, *of: (start(self, *of), self.wait())  # no signal during a save

phase, step, number, *arguments = sys.argv[1:]
log = MetricLog.metrics

def metrics(self, of_phase, of_step, *args, **more):
    log(self, of_phase, of_step, *args, **more)
    if (of_phase, of_step) == (phase, int(step)):
        os.kill(os.getpid(), int(number))

MetricLog.metrics = metrics
sys.exit(main(arguments))
"""


def rows(workdir: Path, machine: str = "fan") -> list[dict]:
    """The rows of a metric log without starts, and without time and place, which differ from run to run."""
    found = [json.loads(line) for line in (workdir / machine / "metrics.jsonl").read_text().splitlines()]
    places = ("time", "host", "device", "job")
    return [{name: row[name] for name in row if name not in places} for row in found if row.get("event") != "started"]


def figures(workdir: Path, run: str = "fan") -> list[tuple]:
    """All that was logged of losses, as bits."""
    return [(r["phase"], r["step"], r["loss_hex"], r["accuracy"]) for r in rows(workdir, run) if "loss" in r]


def assert_same_bits(workdir: Path, uninterrupted: Path) -> None:
    assert figures(workdir) == figures(uninterrupted)
    for line in LINES:
        last = checkpoints.list_steps(uninterrupted / "fan" / line)[-1]
        records = [
            json.loads((of / "fan" / line / f"{last}.json").read_text())["trees"] for of in (workdir, uninterrupted)
        ]
        assert records[0] == records[1], line  # SHA-256 of every array


def interrupted(
    corpus: Path, workdir: Path, phase: str, step: int, number: signal.Signals, more: Sequence[str] = ()
) -> int:
    """Train in a process of its own that gets a signal right after a step was logged; its exit code."""
    config = str(PROJECT / "configs" / "dcase2021.py")
    words = ["train", "--config", config, "--workdir", str(workdir), *overrides(corpus), *more]
    return python(SIGNALLED_AFTER_LOG, phase, str(step), str(int(number)), *words).returncode


@pytest.fixture(scope="module")
def cut_short(corpus: Path, trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two work directories: `a` was stopped in phase 1 and then killed in phase 2, `b` killed in phase 1."""
    folder = tmp_path_factory.mktemp("interrupted")
    a, b = folder / "a", folder / "b"

    def stop_then_kill() -> None:
        assert interrupted(corpus, a, "phase1", 3, signal.SIGTERM) == 75
        assert checkpoints.list_steps(a / "fan" / "phase1") == [2, 3]
        assert interrupted(corpus, a, "phase2_full", 2, signal.SIGKILL) == -signal.SIGKILL
        assert checkpoints.list_steps(a / "fan" / "phase2_full") == []

    def kill() -> None:
        assert interrupted(corpus, b, "phase1", 5, signal.SIGKILL) == -signal.SIGKILL
        assert checkpoints.list_steps(b / "fan" / "phase1") == [2, 4]

    assert trained_once.is_dir()  # its compiled programs are there for the others
    with shallow_networks(), ThreadPoolExecutor() as pool:
        for job in [pool.submit(stop_then_kill), pool.submit(kill)]:
            job.result()
    return {"a": a, "b": b}


def test_stopped_in_phase_1_and_killed_in_phase_2_ends_with_the_same_bits(
    cut_short: dict[str, Path], corpus: Path, trained_once: Path
):
    workdir = cut_short["a"]
    assert train_tiny(corpus, workdir) == 0
    assert_same_bits(workdir, trained_once)
    events = [row for row in rows(workdir) if "event" in row]
    assert events == [
        {"event": "resumed", "phase": "phase1", "step": 3},
        {"event": "resumed", "phase": "phase2_full", "step": 0},
    ]


def test_killed_in_phase_1_and_stopped_in_phase_2_ends_with_the_same_bits(
    cut_short: dict[str, Path],
    corpus: Path,
    trained_once: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    workdir = cut_short["b"]
    journal = workdir / "fan" / "metrics.jsonl"
    journal.write_text(journal.read_text() + '{"phase": "phase1", "step": 6, "lo')  # torn by the kill
    log = MetricLog.metrics

    def stopping(self, phase: str, step: int, *args, **more) -> None:
        log(self, phase, step, *args, **more)
        if (phase, step) == ("phase2_last_block", 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricLog, "metrics", stopping)
        assert train_tiny(corpus, workdir) == 75
    told = capsys.readouterr().err
    assert "stopped at step 1 of 3; all is saved; run the same command again to go on" in told
    assert "fan phase1: resuming at step 4 of 6" in told
    assert train_tiny(corpus, workdir) == 0
    assert "fan phase2_last_block: resuming at step 1 of 3" in capsys.readouterr().err
    assert_same_bits(workdir, trained_once)
    events = [row for row in rows(workdir) if "event" in row]
    assert events == [
        {"event": "resumed", "phase": "phase1", "step": 4},
        {"event": "resumed", "phase": "phase2_last_block", "step": 1},
    ]


@pytest.mark.slow
def test_audio_kept_on_the_host_trains_the_same(
    corpus: Path, trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert train_tiny(corpus, tmp_path / "run", data__resident="host", phase2__strategies="full") == 0
    assert "the audio stays on the host" in capsys.readouterr().err
    wanted = {(row["phase"], row["step"]): row["loss"] for row in rows(trained_once)}
    for row in rows(tmp_path / "run"):
        assert row["loss"] == pytest.approx(wanted[row["phase"], row["step"]], rel=1e-3)


@pytest.mark.slow
def test_a_stack_trains_as_its_tasks_alone_and_goes_on_with_the_same_bits(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Killed after one task of the stack was saved and before the other was; clips held out.

    A shallow model at a low rate: in batches of four, fifty layers of BatchNorm are chaotic (parameters 1e-7 apart give
    losses 2 % apart after a step of 0.01). What is compared is the stack, not that.
    """
    variant = "mobilefacenet_512"
    synthesize(tmp_path / "corpus", replace(RECIPE, seed=1), machines=("fan", "pump"))
    fields = {
        "variants": variant,
        "phase2.strategies": "full",
        "train.holdout_fraction": "0.25",
        "optimizer.learning_rate": "1e-6",
    }
    changes = {field.replace(".", "__"): value for field, value in fields.items()}
    for name, stacked in (("alone", "1"), ("stacked", "2")):
        assert train_tiny(tmp_path / "corpus", tmp_path / name, parallel__fleets_per_program=stacked, **changes) == 0
    words = [f"--config.{field}={value}" for field, value in {**fields, "parallel.fleets_per_program": "2"}.items()]
    assert interrupted(tmp_path / "corpus", tmp_path / "killed", "phase1", 5, signal.SIGKILL, words) == -signal.SIGKILL
    shutil.rmtree(tmp_path / "killed" / "pump" / "phase1" / "4")
    (tmp_path / "killed" / "pump" / "phase1" / "4.json").unlink()
    assert train_tiny(tmp_path / "corpus", tmp_path / "killed", parallel__fleets_per_program="2", **changes) == 0
    assert "fan+pump phase1: first step" in capsys.readouterr().err
    for machine in ("fan", "pump"):
        alone, stacked, killed = (
            {
                (row["phase"], row["step"], what): row[what][variant]
                for row in rows(tmp_path / name, machine)
                for what in row.keys() & {"loss", "holdout_loss"}
            }
            for name in ("alone", "stacked", "killed")
        )
        assert [key[:2] for key in alone if key[2] == "holdout_loss"] == [
            ("phase1", 2),
            ("phase1", 4),
            ("phase1", 6),
            ("phase2_full", 2),
            ("phase2_full", 3),
        ]
        assert stacked == pytest.approx(alone, rel=1e-4)
        assert stacked == killed


def started(corpus: Path, workdir: Path, changes: dict[str, str]) -> subprocess.Popen:
    config = str(PROJECT / "configs" / "dcase2021.py")
    words = ["train", "--config", config, "--workdir", str(workdir), *overrides(corpus, **changes)]
    code = with_these_networks("import sys; from asdjax.cli.main import main; sys.exit(main(sys.argv[1:]))")
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=PROJECT, stderr=subprocess.DEVNULL)


def logged(workdir: Path) -> int:
    """Steps in the log so far, a torn line left out."""
    return sum("loss" in row for row in read(workdir / "fan" / "metrics.jsonl"))


@pytest.mark.slow
def test_ten_kills_at_random_moments_and_a_stop_in_both_phases_leave_no_trace(corpus: Path, tmp_path: Path):
    """Moments: some steps further on, and up to a step's and a save's length later; one of them while it starts."""
    moment = random.Random(0)
    changes = {"phase1__steps": "60", "phase2__steps": "40", "phase2__strategies": "full"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train_tiny(corpus, whole, **changes) == 0
    ends = []
    for number in (signal.SIGKILL,) * 5 + (signal.SIGTERM,) + (signal.SIGKILL,) * 5:
        before, ahead = logged(broken), moment.randint(1, 10)
        with started(corpus, broken, changes) as process:
            while process.poll() is None and logged(broken) < before + ahead and len(ends) != 3:
                time.sleep(0.01)
            time.sleep(moment.uniform(0, 0.3 if len(ends) != 3 else 2))
            process.send_signal(number)
        ends.append(process.returncode)
    assert ends == [-signal.SIGKILL] * 5 + [75] + [-signal.SIGKILL] * 5
    assert train_tiny(corpus, broken, **changes) == 0
    assert figures(broken) == figures(whole)
    resumed = [row["phase"] for row in rows(broken) if "event" in row]
    assert {"phase1", "phase2_full"} <= set(resumed)


SIGNALLED_WHEN_BOTH_TRAIN = """
import os, sys, threading
from asdjax.cli.main import main
from asdjax.fleet.metric_log import MetricLog

both, log = threading.Barrier(2), MetricLog.metrics

def metrics(self, phase, step, *args, **more):
    log(self, phase, step, *args, **more)
    if step == 3 and phase == "phase1":
        both.wait(300)
        if "fan" in str(self.path):
            os.kill(os.getpid(), 15)

if sys.argv[1] == "stopped":
    MetricLog.metrics = metrics
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_two_tasks_at_once_each_on_half_of_the_devices_stop_and_go_on_with_the_same_bits(tmp_path: Path):
    synthesize(tmp_path / "corpus", RECIPE, machines=("fan", "pump"))
    config = str(PROJECT / "configs" / "dcase2021.py")
    changes = {"parallel__device_groups": "2", "phase2__strategies": "full"}

    def run(workdir: str, how: str, code: int) -> None:
        words = ["train", "--config", config, "--workdir", str(tmp_path / workdir), "--debug"]
        env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
        ran = python(SIGNALLED_WHEN_BOTH_TRAIN, how, *words, *overrides(tmp_path / "corpus", **changes), env=env)
        assert ran.returncode == code, ran.stderr

    run("whole", "whole", 0)
    run("stopped", "stopped", 75)
    for machine in ("fan", "pump"):
        assert checkpoints.list_steps(tmp_path / "stopped" / machine / "phase1")[-1] in (3, 4)
    run("stopped", "whole", 0)
    for machine in ("fan", "pump"):
        whole, stopped = (
            [(row["phase"], row["step"], row["loss_hex"]) for row in rows(tmp_path / name, machine) if "loss" in row]
            for name in ("whole", "stopped")
        )
        assert len(whole) == 9
        assert stopped == whole


def test_jobs_share_the_meshes_and_one_that_fails_ends_the_others():
    """The job that fails does so while another is at work; that one is asked to stop, and nothing new is begun."""
    begun, failing = [], threading.Event()

    def works(mesh) -> None:
        begun.append(mesh)
        with GracefulShutdown() as stop:
            stop.begin()
            failing.set()
            while not stop.stop_requested:
                time.sleep(0.001)

    def fails(mesh) -> None:
        begun.append(mesh)
        failing.wait(10)
        raise Diverged("no number")

    with interrupts.handle_signals(), pytest.raises(Diverged, match="no number"):
        run_on_each(["a", "b"], [works, fails, works])  # pyright: ignore[reportArgumentType]
    assert sorted(begun) == ["a", "b"]


def test_of_several_jobs_that_fail_each_is_told(capsys: pytest.CaptureFixture[str]):
    together = threading.Barrier(2)

    def fails(mesh) -> None:
        together.wait(10)
        raise Diverged(f"no number on {mesh}")

    with interrupts.handle_signals(), pytest.raises(Diverged) as raised:
        run_on_each(["a", "b"], [fails, fails])  # pyright: ignore[reportArgumentType]
    (said,) = capsys.readouterr().err.splitlines()
    assert sorted([str(raised.value), said]) == ["no number on a", "no number on b"]

    def breaks(mesh) -> None:
        together.wait(10)
        raise KeyError(mesh)

    with interrupts.handle_signals(), pytest.raises(KeyError, match=r"^'[ab]'$"):
        run_on_each(["a", "b"], [breaks, breaks])  # pyright: ignore[reportArgumentType]
    assert capsys.readouterr().err.startswith("KeyError: '")


def test_the_devices_are_shared_out():
    code = "from asdjax.runtime import hardware; print([[m.size for m in hardware.make_meshes(n)] for n in (1, 2, 8)])"
    ran = python(code, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert ran.stdout == f"{[[8], [4, 4], [1] * 8]}\n", ran.stderr


def test_tasks_at_once_that_do_not_divide_the_devices_are_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert train_tiny(corpus, tmp_path / "run", parallel__device_groups="2") == 2
    assert "device_groups: expected a divisor of the number of devices (1), got 2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_finished_is_not_trained_again(
    corpus: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = figures(trained)

    def nothing_to_compile(*_):
        raise AssertionError("a step was asked for")

    monkeypatch.setattr(loop, "compile_steps", nothing_to_compile)
    assert train_tiny(corpus, trained) == 0
    assert "fan: already trained" in capsys.readouterr().err
    assert figures(trained) == before


def test_seeds_are_added_to_several_and_those_there_are_not_trained_again(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    short = {"phase1__steps": "2", "phase2__strategies": ""}
    assert train_tiny(corpus, tmp_path / "run", seed="1,2", **short) == 0
    before = figures(tmp_path / "run", "fan@2")
    capsys.readouterr()
    assert train_tiny(corpus, tmp_path / "run", seed="1,2,3", **short) == 0
    told = capsys.readouterr().err
    assert "fan@1: already trained" in told
    assert "fan@2: already trained" in told
    assert checkpoints.list_steps(tmp_path / "run" / "fan@3" / "phase1") == [2]
    assert figures(tmp_path / "run", "fan@2") == before
    assert loading.read(tmp_path / "run").seed == (1, 2, 3)
    assert train_tiny(corpus, tmp_path / "run", seed="1", **short) == 2
    assert "folders of one seed are called <task>, of several <task>@<seed>" in capsys.readouterr().err


def test_rows_of_metrics(trained_once: Path):
    logged = rows(trained_once)
    wanted = [(line, step) for line, last in zip(LINES, (6, 3, 3), strict=True) for step in range(1, last + 1)]
    assert [(row["phase"], row["step"]) for row in logged] == wanted
    for row in logged:
        assert row.keys() >= {"phase", "step", "loss", "loss_hex", "accuracy"}
        assert tuple(row["loss"]) == tuple(row["loss_hex"]) == tuple(row["accuracy"]) == VARIANTS
        for variant in VARIANTS:
            assert float.fromhex(row["loss_hex"][variant]) == row["loss"][variant]
            assert 0 <= row["accuracy"][variant] <= 1
    assert list((trained_once / "fan" / "tensorboard").iterdir())


def test_every_strategy_is_a_line_of_its_own_from_the_end_of_phase_1(trained_once: Path):
    folder = trained_once / "fan"
    assert {line: checkpoints.list_steps(folder / line) for line in LINES} == {
        "phase1": [4, 6],
        "phase2_full": [2, 3],
        "phase2_last_block": [2, 3],
    }
    digests = {
        line: json.loads((folder / line / f"{checkpoints.list_steps(folder / line)[-1]}.json").read_text())["trees"]
        for line in LINES
    }
    for line, frozen in (("phase2_full", set()), ("phase2_last_block", {"early"})):
        end, start = digests[line]["model"], digests["phase1"]["model"]
        assert end.keys() == start.keys()
        same = {path.split("'")[-2].split("/")[0] for path in end if end[path] == start[path]}
        moved = {path.split("'")[-2].split("/")[0] for path in end if end[path] != start[path]}
        assert same == frozen
        assert moved == {"early", "late", "embedding", "arcface"} - frozen
        before = json.loads((folder / line / f"{checkpoints.list_steps(folder / line)[0]}.json").read_text())["trees"]
        assert not any("'early/" in path for path in before["optimizer"]) or not frozen


def test_without_target_clips_phase_2_is_left_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(corpus, tmp_path / "corpus")
    for clip in (tmp_path / "corpus" / "fan" / "train").glob("*target*"):
        clip.unlink()

    def standing_still(spec, _):
        nothing = np.zeros((1, 1, len(spec.variants)))
        return lambda state, *_: (state, StepMetrics(nothing, nothing, nothing))

    monkeypatch.setattr(loop, "compile_steps", standing_still)
    assert train_tiny(tmp_path / "corpus", tmp_path / "run") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "phase 2 is left out" in line]
    assert len(lines) == 1
    assert checkpoints.list_steps(tmp_path / "run" / "fan" / "phase1") == [4, 6]
    assert not list((tmp_path / "run" / "fan").glob("phase2*"))


def test_a_stop_between_two_checkpoints_leaves_no_trace_in_what_held_out_clips_say(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def standing_still(spec, _):
        nothing = np.zeros((1, 1, len(spec.variants)))
        return lambda state, *_: (state, StepMetrics(nothing, nothing, nothing))

    def stopping(self, phase: str, step: int, *args, **more) -> None:
        log(self, phase, step, *args, **more)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    log = MetricLog.metrics
    monkeypatch.setattr(loop, "compile_steps", standing_still)
    monkeypatch.setattr(holdout, "score_held_out", lambda *_, **__: ({VARIANTS[0]: 0.0}, {VARIANTS[0]: 0.0}))
    changes = {"train__holdout_fraction": "0.25", "phase2__strategies": ""}
    with monkeypatch.context() as patch:
        patch.setattr(MetricLog, "metrics", stopping)
        assert train_tiny(corpus, tmp_path / "run", **changes) == 75
    assert checkpoints.list_steps(tmp_path / "run" / "fan" / "phase1") == [2, 3]
    assert train_tiny(corpus, tmp_path / "run", **changes) == 0
    told = [row["step"] for row in rows(tmp_path / "run") if "holdout_loss" in row]
    assert told == [2, 4, 6]


@pytest.mark.parametrize(("what", "field"), [("loss", "loss"), ("gradient", "gradient_norm")])
def test_what_is_not_finite_ends_the_run_and_leaves_the_checkpoints(
    what: str,
    field: str,
    corpus: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """It is noticed in steps that are not logged too, before a checkpoint is saved over good ones."""
    line = trained / "fan" / "phase2_full"
    shutil.rmtree(line)
    phase1 = sorted(path.name for path in (trained / "fan" / "phase1").iterdir())
    compiled = loop.compile_steps

    def diverging(*args):
        def run(state, waves, plan, keys, turn):
            state, metrics = compiled(*args)(state, waves, plan, keys, turn)
            bad = np.where(int(turn.first[0]) >= 1, np.inf, np.array(getattr(metrics, field)))
            return state, metrics._replace(**{field: bad})

        return run

    monkeypatch.setattr(loop, "compile_steps", diverging)
    assert train_tiny(corpus, trained, train__log_every_steps="3", train__checkpoint_every_steps="2") == 3
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"fan phase2_full step 2: the {what} of resnet50_512 is not finite; its batch mixed " in message
    event, failed = rows(trained)[-2:]
    assert (failed["event"], failed["code"]) == ("failed", 3)
    assert failed["why"] in message
    assert (event["event"], event["what"], event["variant"]) == ("diverged", what, VARIANTS[0])
    assert event["step"] == 2
    assert [len(pair) for pair in event["clips"]] == [2] * 4
    assert f"mixed {event['clips'][0][0]} with {event['clips'][0][1]} and 3 more pairs" in message
    assert all(Path(clip).is_file() for pair in event["clips"] for clip in pair)
    assert checkpoints.list_steps(line) == []
    assert sorted(path.name for path in (trained / "fan" / "phase1").iterdir()) == phase1
    with pytest.raises(Diverged):
        train(loading.read(trained), trained)


def test_audio_that_cannot_be_decoded_leaves_no_work_directory(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(corpus, tmp_path / "corpus")
    synthesize(tmp_path / "corpus", RECIPE, machines=("pump",))
    clip = sorted((tmp_path / "corpus" / "pump" / "train").iterdir())[3]
    clip.write_bytes(clip.read_bytes()[:-10])
    assert train_tiny(tmp_path / "corpus", tmp_path / "run", "--only", "pump") == 2
    assert f"{clip.name}: truncated" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_as_work_directory_is_refused_once(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "run").write_text("notes")
    assert train_tiny(corpus, tmp_path / "run") == 2
    expected = f"workdir {tmp_path / 'run'}: expected a folder, or nothing there yet, got a file; choose another"
    assert capsys.readouterr().err.splitlines()[-1] == f"asdjax train: {expected}"
    assert (tmp_path / "run").read_text() == "notes"


@pytest.mark.parametrize("name", ["store", "evaluation"])
def test_a_machine_type_named_like_a_folder_of_the_work_directory_is_refused(
    corpus: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(corpus / "fan", tmp_path / "corpus" / name)
    assert train_tiny(tmp_path / "corpus", tmp_path / "run") == 2
    assert f"cannot be called {name}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_clip_among_the_test_clips_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(corpus, tmp_path / "corpus")
    fan = tmp_path / "corpus" / "fan"
    shutil.copy(min((fan / "train").iterdir()), min((fan / "source_test").iterdir()))
    assert train_tiny(tmp_path / "corpus", tmp_path / "run") == 2
    assert "same contents among training and test clips" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_where_nothing_was_trained_other_clips_are_free_and_checked(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def ended(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_steps", ended)
        assert train_tiny(corpus, tmp_path / "run") == 1
    assert (tmp_path / "run" / "fan" / "task.json").is_file()
    shutil.copytree(corpus, tmp_path / "corpus")
    clips = sorted((tmp_path / "corpus" / "fan" / "train").iterdir())
    clips[0].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_steps", ended)
        assert train_tiny(tmp_path / "corpus", tmp_path / "run") == 1
    shutil.copy(clips[1], min((tmp_path / "corpus" / "fan" / "source_test").iterdir()))
    assert train_tiny(tmp_path / "corpus", tmp_path / "run") == 2
    assert "same contents among training and test clips" in capsys.readouterr().err


def test_other_clips_are_refused_and_the_same_ones_found_wherever_they_are(
    corpus: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    shutil.rmtree(trained / "store")
    assert train_tiny(moved, trained) == 0
    assert "fan: already trained" in capsys.readouterr().err
    clip = min((moved / "fan" / "train").iterdir())
    clip.unlink()
    assert train_tiny(moved, trained) == 2
    assert f"1 missing (such as fan/00/source/{clip.name})" in capsys.readouterr().err


def test_a_run_that_another_process_trains_is_left_to_it(
    corpus: Path, trained: Path, capsys: pytest.CaptureFixture[str]
):
    with locked_folder(trained / "fan"):
        assert train_tiny(corpus, trained) == 75
    assert "fan: another asdjax process is at work there" in capsys.readouterr().err


def test_another_configuration_is_refused_and_changes_nothing(
    corpus: Path, trained: Path, capsys: pytest.CaptureFixture[str]
):
    before = (trained / "config.json").read_bytes()
    assert train_tiny(corpus, trained, phase1__steps="7", optimizer__momentum="0.5") == 2
    message = capsys.readouterr().err
    assert "phase1.steps (there 6, now 7)" in message
    assert "optimizer.momentum (there 0.9, now 0.5)" in message
    assert (trained / "config.json").read_bytes() == before


def test_phase_2_never_starts_from_an_earlier_step_than_phase_1s_last(
    corpus: Path, trained: Path, trained_once: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.rmtree(trained / "fan" / "phase2_full")
    files = [path for path in (trained / "fan" / "phase1" / "6" / "model").rglob("*") if path.is_file()]
    data = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert train_tiny(corpus, trained) == 0
    assert "is not what was saved; step 6 set aside, going on from step 4" in capsys.readouterr().err
    for line in ("phase1", "phase2_full"):
        last = checkpoints.list_steps(trained_once / "fan" / line)[-1]
        records = [
            json.loads((of / "fan" / line / f"{last}.json").read_text())["trees"] for of in (trained, trained_once)
        ]
        assert records[0] == records[1], line


def test_the_evaluation_does_not_import_the_loop():
    ran = python("import sys, asdjax.evaluation.evaluate; print('asdjax.training.loop' in sys.modules)")
    assert ran.stdout == "False\n", ran.stderr


def test_a_phase_2_that_stands_on_another_phase_1_is_refused_until_it_is_removed(
    trained: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.rmtree(trained / "fan" / "phase1")
    (untrained(corpus, tmp_path / "other") / "fan" / "phase1").replace(trained / "fan" / "phase1")
    line = trained / "fan" / "phase2_full"
    told = f"{line}: expected step 6 of phase1 as step 3 began from it, got another"
    results, digest = (trained / "evaluation" / "dev" / "results.json").read_bytes(), checkpoints.read_digest(line, 3)
    for command in (lambda: train_tiny(corpus, trained), lambda: main(["evaluate", "--workdir", str(trained)])):
        capsys.readouterr()
        assert command() == 2
        error = capsys.readouterr().err
        assert told in error
        assert f"remove {line} and run asdjax train again" in error
    assert (trained / "evaluation" / "dev" / "results.json").read_bytes() == results
    shutil.rmtree(line)
    shutil.rmtree(trained / "fan" / "phase2_last_block")
    assert train_tiny(corpus, trained) == 0
    assert checkpoints.read_digest(line, 3) != digest
    assert main(["evaluate", "--workdir", str(trained)]) == 0


def test_a_phase_1_that_was_trained_again_to_the_same_bits_keeps_its_phase_2(trained: Path, corpus: Path):
    lines = {line: trained / "fan" / line for line in LINES}
    digests = {
        line: checkpoints.read_digest(folder, checkpoints.list_steps(folder)[-1]) for line, folder in lines.items()
    }
    record = (lines["phase2_full"] / "3.json").read_bytes()
    shutil.rmtree(lines["phase1"])
    assert train_tiny(corpus, trained) == 0
    assert digests == {line: checkpoints.read_digest(at, checkpoints.list_steps(at)[-1]) for line, at in lines.items()}
    assert (lines["phase2_full"] / "3.json").read_bytes() == record


def test_a_phase_1_that_is_trained_again_to_other_numbers_is_noticed_when_phase_2_is_due(
    trained: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As on another device, whose sums are rounded otherwise."""
    first = fleet_model.init_model
    monkeypatch.setattr(fleet_model, "init_model", lambda spec, seed, task: first(spec, seed + 1, task))
    shutil.rmtree(trained / "fan" / "phase1")
    assert train_tiny(corpus, trained) == 2
    assert "phase1 was trained again since" in capsys.readouterr().err
    assert checkpoints.list_steps(trained / "fan" / "phase1")[-1] == 6


@pytest.mark.parametrize("left", ["config.json edited", "config.json lost"])
def test_a_trained_fleet_is_not_taken_for_one_of_another_seed(
    left: str, trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    config = trained / "config.json"
    if left == "config.json lost":
        config.unlink()
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), "seed": [5]}))
    before = sorted(trained.rglob("*"))
    capsys.readouterr()
    assert train_tiny(corpus, trained, seed="5") == 2
    assert "task.json: expected the settings that this fleet was trained by" in capsys.readouterr().err
    assert sorted(trained.rglob("*")) == before
    if left == "config.json edited":
        assert main(["evaluate", "--workdir", str(trained)]) == 2
        assert "seed (trained with 0, now 5)" in capsys.readouterr().err
