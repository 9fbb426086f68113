"""`asdjax bench`: its errors, and its comparisons with libraries at sizes of a second."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from asdjax.cli.main import main
from asdjax.perf import (
    bench_checkpoint,
    bench_features,
    bench_knn,
    bench_store,
    bench_table,
    clone_tools,
    measure,
    torch_peer,
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--variants", "vgg_512"], "--variants: expected any of mobilefacenet_1024"),
        (["train", "--variants", ","], "got none"),
        (["train", "--batch", "9999999"], "--batch: expected a whole number from 1 to 1000000, got '9999999'"),
        (["train", "--batch", "8,0"], "--batch: expected a whole number from 1 to 1000000, got '0'"),
        (["signal", "--batch", "many"], "--batch: expected a whole number from 1 to 1000000, got 'many'"),
        (["knn", "--repeats", "0"], "--repeats: expected a whole number from 1 to 1000000, got '0'"),
        (["knn", "--repeats", ""], "--repeats: expected a whole number from 1 to 1000000, got ''"),
        (["signal", "--batch", ""], "--batch: expected a whole number from 1 to 1000000, got ''"),
        (["store", "--json", "nowhere/o.json"], "--json nowhere/o.json: cannot be written; choose another place"),
        (
            ["train", "--fleets-per-program", "0"],
            "--fleets-per-program: expected a whole number from 2 to 1000, got '0'",
        ),
        (["train", "--profile", "/dev/null"], "--profile /dev/null: File exists; choose another folder"),
        (["train", "--profile", "x" * 300], "File name too long; choose shorter names"),
        (["knn", "--json", "."], "--json .: cannot be written"),
        (["knn", "--json", "-"], "--json -: expected a file name, got -; use /dev/stdout to print"),
        (
            ["train", "--against", "torch"],
            "expected TORCH_PYTHON to be the path of a Python interpreter",
        ),
        (["signal", "--against", "torch"], "it is not set"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv(torch_peer.INTERPRETER, raising=False)
    assert main(["bench", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("asdjax bench: ")
    assert message in line


def test_an_interpreter_that_is_none_and_a_package_without_the_counterpart_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(torch_peer, "PROBE", "import no_torch")
    for name, fault in (
        (str(tmp_path / "python"), "No such file or directory"),
        (str(tmp_path), "Permission denied"),
        ("true", "no Python"),
        ("echo", "no Python"),
        (sys.executable, "ModuleNotFoundError: No module named 'no_torch'"),
    ):
        monkeypatch.setenv(torch_peer.INTERPRETER, name)
        assert main(["bench", "train", "--against", "torch"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"a Python interpreter that has torch, got {name} ({fault}); make one by" in line
    monkeypatch.setattr(torch_peer, "SCRIPT", tmp_path / "torch_training.py")
    assert main(["bench", "train", "--against", "torch"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--against torch: expected torch_training.py in tests/perf of a clone of the repository" in line


def test_a_profile_needs_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(clone_tools, "FOLDER", tmp_path)
    assert main(["bench", "train", "--profile", str(tmp_path / "traces")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "asdjax bench: --profile: expected step_profile.py in tests/perf of a clone of the repository"
    )
    assert line.endswith("run asdjax from a clone, or leave out --profile")


def test_the_package_measures_without_a_clone():
    tools = Path(__file__).parent
    names = {path.stem for path in tools.glob("*.py")}
    imported = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    for module in Path(bench_store.__file__).parent.glob("*.py"):
        assert not names & set(imported.findall(module.read_text())), module


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "SECONDS_PER_TURN", 0.01)


def require_rates(rates: dict[str, dict[str, Any]], ours: str) -> None:
    """Assert that each rate is within its spread, and that our own ratio is 1."""
    for figures in rates.values():
        least, most = figures["per_s_spread"]
        assert 0 < least <= figures["per_s"] <= most
    assert rates[ours].get("ratio", 1.0) == 1.0


def test_knn_finds_what_its_rivals_find():
    record = bench_knn.bench(1, bench_knn.KnnSize(queries=50, bank=400, k=3))
    require_rates(record["ways"], bench_knn.OURS)
    assert {"asdjax", "scikit-learn, cosine", "scikit-learn, sqeuclidean"} <= set(record["ways"])
    assert "50 queries in 400" in bench_table.format_knn(record)


def test_store_reads_clips_and_cuts_crops():
    record = bench_store.bench(1, bench_store.StoreSize(clips=6, seconds=2, crops=50))
    require_rates(record["clips"], bench_store.OURS)
    require_rates(record["crops"], bench_store.CROPS)
    printed = bench_table.format_store(record)
    rows = [line.split("  ")[0] for line in printed.splitlines()]
    for name in ("librosa.load", "soundfile.read"):
        assert {name, f"{name}, all cores"} <= set(rows)
    assert {"store build, all cores", "crops from the store, all cores"} <= set(rows)
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_signal_is_compared_with_librosa_by_crops_over_clips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_features, "CLIPS", 2)
    record = bench_features.bench((2,), against_torch=False, repeats=1)
    rates = record["batches"]["2"]
    require_rates(rates, bench_features.OURS)
    librosa = rates[bench_features.LIBROSA]
    assert librosa["ratio"] == pytest.approx(rates[bench_features.OURS]["per_s"] / librosa["per_s"])
    units = {name: figures["unit"] for name, figures in rates.items()}
    assert units == {
        bench_features.OURS: "pieces/s",
        bench_features.LIBROSA: "clips/s",
        bench_features.LIBROSA_THREADS: "clips/s",
    }
    assert json.loads(json.dumps(record)) == record
    printed = bench_table.format_signal(record).splitlines()
    (ours,) = (line for line in printed if line.startswith("asdjax "))
    assert "pieces/s" in ours
    assert sum("clips/s" in line for line in printed if line.startswith("librosa.stft")) == 2
    assert all(len(line) <= 80 for line in printed)


@pytest.mark.slow
def test_checkpoints_are_measured_with_their_operations():
    record = bench_checkpoint.bench(1, 0.03125)
    during, at_end = (record["figures"][name] for name in (bench_checkpoint.DURING, bench_checkpoint.AT_END))
    assert during["bytes"] > at_end["bytes"] > 10**6
    assert min(during["files"], at_end["files"]) > 5
    assert min(during["seconds"], at_end["seconds"], record["wait_seconds"]) > 0
    text = bench_table.format_checkpoint(record)
    assert "save during a phase" in text
    assert "every 10 minutes" in text
    assert max(map(len, text.splitlines())) <= 80
    if shutil.which("strace"):
        assert during["operations"]["fsync"] > 0
        assert during["operations"]["openat"] > during["files"]
        # beside other work TensorStore may look again at a database for each of its arrays: the least of three counts
        counts = {at_end: [sum(first["operations"].values())] for at_end, first in ((False, during), (True, at_end))}
        while len(counts[True]) < 3 and not min(counts[True]) < min(counts[False]) <= 250:
            for of_kind, numbers in counts.items():
                numbers.append(sum(bench_checkpoint._count_operations(0.03125, at_end=of_kind).values()))
        assert min(counts[True]) < min(counts[False]) <= 250, counts
    else:
        assert during["operations"] is None
