"""`asdjax bench train` and its result, with a stand-in for the PyTorch counterpart."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SHALLOW, shallow_networks

from asdjax.cli.main import main
from asdjax.config.fields import VARIANTS
from asdjax.errors import InputError
from asdjax.perf import bench_table, bench_train, device_limits, measure, torch_peer
from asdjax.runtime.threads import count_cores

sys.path.insert(0, "tests/perf")
import torch_loader

VARIANT, WIDTH, BATCH = "resnet50_512", SHALLOW, 2
SECONDS_OF_STEP = 0.25

FAKE = f"""
import json, sys
print(json.dumps({{"torch": "0.0", "ways": ["eager"], "librosa": True, "threads": int(sys.argv[1])}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "prepare":
        answer = {{"parameters": {{variant: 1 for variant in request["variants"]}}}}
    elif request["do"] == "fail":
        answer = {{"error": "RuntimeError: no room"}}
    elif request["do"] == "die":
        sys.exit(3)
    else:
        answer = {{"seconds": {SECONDS_OF_STEP} * request.get("steps", 0)}}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Patch in a PyTorch that always takes SECONDS_OF_STEP, and shorten the other measurements."""
    script = tmp_path_factory.mktemp("peer") / "torch_training.py"
    script.write_text(FAKE)
    with pytest.MonkeyPatch.context() as patch, shallow_networks():
        patch.setenv(torch_peer.INTERPRETER, sys.executable)
        patch.setattr(torch_peer, "SCRIPT", script)
        patch.setattr(torch_peer, "PROBE", "print(42)")
        patch.setattr(measure, "SECONDS_PER_TURN", 0.01)
        patch.setattr(device_limits, "MATRIX_ON_CPU", 64)
        patch.setattr(device_limits, "COPIED_ON_CPU", 2**16)
        patch.setattr(torch_loader, "make_clips", list)
        yield patch


@pytest.fixture(scope="module")
def record(patched: None) -> dict[str, Any]:
    return run_bench(batches=(BATCH,), against_torch=True)


def make_request(**fields: Any) -> bench_train.BenchRequest:
    return bench_train.BenchRequest(**{"subjects": (VARIANT,), "repeats": 1, "width": WIDTH, **fields})


def run_bench(**fields: Any) -> dict[str, Any]:
    """Return the complete result."""
    *_, record = bench_train.bench(make_request(**fields))
    return record


def test_a_record_holds_the_variants_benched_and_only_them(record: dict[str, Any]):
    assert set(record) == {"device", "versions", "variants", "fleet", "complete"}
    assert list(record["variants"]) == [VARIANT]
    assert record["fleet"] is None
    assert {"jax", "asdjax", "torch"} <= set(record["versions"])
    assert record["device"]["torch"]["threads"] == count_cores() == record["device"]["cores"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_figures_go_together(record: dict[str, Any]):
    figures = record["variants"][VARIANT]
    assert figures["batch"] == BATCH
    assert list(figures["batches"]) == [str(BATCH)]
    assert figures.items() >= figures["batches"][str(BATCH)].items()
    seconds = figures["ms_per_step"] / 1e3
    assert figures["samples_per_s"] == pytest.approx(BATCH / seconds)
    least, most = figures["ms_per_step_spread"]
    assert least <= figures["ms_per_step"] <= most
    for what, at_most in (("flops", "flops_per_s"), ("bytes", "bytes_per_s")):
        utilisation = figures["flops_utilisation" if what == "flops" else "bandwidth_utilisation"]
        assert utilisation == pytest.approx(figures[f"{what}_per_step"] / seconds / record["device"][at_most])
    assert figures["bytes_per_step"] > figures["memory_bytes"]["temporaries"] > 0
    assert figures["compile_s"] > 0
    assert figures["signal_share"] > 0


def test_the_ratio_is_to_pytorch_in_the_same_run(record: dict[str, Any]):
    figures = record["variants"][VARIANT]
    assert figures["torch"]["eager"]["samples_per_s"] == pytest.approx(BATCH / SECONDS_OF_STEP)
    assert figures["ratio"] == pytest.approx(1e3 * SECONDS_OF_STEP / figures["ms_per_step"])
    embed = figures["embed"]
    assert embed["ratio"] == pytest.approx(embed["pieces_per_s"] / embed["torch_pieces_per_s"])
    assert embed["pieces_per_s"] == pytest.approx(9 * embed["clips_per_s"])
    assert figures["torch_loader"] == {"batch": BATCH, "samples_per_s": pytest.approx(BATCH / SECONDS_OF_STEP)}


def test_a_variant_has_the_ratio_of_its_worst_batch_and_the_figures_of_its_largest(
    patched: None, monkeypatch: pytest.MonkeyPatch
):
    def measure_batch(_: bench_train.BenchSubject, batch: int, figures: dict[str, Any]) -> Iterator[None]:
        figures |= {"ratio": batch / 8, "samples_per_s": batch}
        yield

    monkeypatch.setattr(bench_train, "_measure_batch", measure_batch)
    monkeypatch.setattr(bench_train.bench_embed, "measure_embedding", lambda *_: {})
    found = run_bench(batches=(8, 48), against_torch=True)
    figures = found["variants"][VARIANT]
    assert (figures["batch"], figures["samples_per_s"], figures["ratio"]) == (48, 48, 1.0)
    assert {size: batch["ratio"] for size, batch in figures["batches"].items()} == {
        "8": 1.0,
        "48": 6.0,
    }


def test_the_command_prints_a_table_that_fits_and_writes_the_record(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    named = dict.fromkeys(VARIANTS, record["variants"][VARIANT])
    whole = {**record, "variants": named, "fleet": record["variants"][VARIANT]}
    requests = []
    monkeypatch.setattr(bench_train, "bench", lambda request: requests.append(request) or iter([whole]))
    words = ["--batch=48,8", f"--variants={VARIANT}", "--repeats=2", "--against=torch", "--fleets-per-program=7"]
    words += ["--profile", str(tmp_path / "new" / "traces")]
    assert main(["bench", "train", *words, "--json", str(tmp_path / "o.json")]) == 0
    traces = tmp_path / "new" / "traces"
    fields = {"batches": (8, 48), "against_torch": True, "fleets_per_program": 7, "traces": traces}
    assert requests == [make_request(**fields, repeats=2, width=1.0)]
    assert list(traces.iterdir()) == []
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert all(name in printed for name in (*VARIANTS, "fleet"))
    _, _, loader_table = printed.rpartition("torch with a DataLoader per s\n")
    rows = [line.split() for line in loader_table.splitlines()]
    ours = record["variants"][VARIANT]["samples_per_s"]
    assert rows[0] == [VARIANTS[0], str(BATCH), f"{ours:.4g}", f"{BATCH / SECONDS_OF_STEP:.4g}"]
    assert json.loads((tmp_path / "o.json").read_text()) == json.loads(json.dumps(whole))


def test_what_was_measured_stays_where_the_rest_fails(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(_: bench_train.BenchRequest) -> Iterator[dict[str, Any]]:
        yield {**record, "complete": False}
        raise InputError("no room")

    monkeypatch.setattr(bench_train, "bench", fail)
    file = tmp_path / "o.json"
    assert main(["bench", "train", "--json", str(file)]) == 2
    assert "no room" in capsys.readouterr().err
    assert json.loads(file.read_text()) == json.loads(json.dumps({**record, "complete": False}))


def test_on_a_cpu_the_fleet_runs_at_the_smallest_batch_only(patched: None, monkeypatch: pytest.MonkeyPatch):
    measured = []

    def measure_batch(subject: bench_train.BenchSubject, batch: int, figures: dict[str, Any]) -> Iterator[None]:
        measured.append((subject.name, subject.variants, batch))
        figures["samples_per_s"] = batch
        yield

    monkeypatch.setattr(bench_train, "_measure_batch", measure_batch)
    monkeypatch.setattr(bench_train.bench_embed, "measure_embedding", lambda *_: {})
    found = run_bench(subjects=(VARIANT, bench_train.FLEET))
    assert measured == [(VARIANT, (VARIANT,), 8), (VARIANT, (VARIANT,), 48), (bench_train.FLEET, VARIANTS, 8)]
    assert list(found["variants"]) == [VARIANT]
    assert (found["fleet"]["batch"], found["fleet"]["samples_per_s"]) == (8, 8)


@pytest.mark.slow
def test_a_record_grows_as_it_is_measured_and_is_complete_in_the_end(patched: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_train.bench_embed, "measure_embedding", lambda *_: {"ratio": 1.0})
    request = make_request(batches=(BATCH,), against_torch=True, fleets_per_program=2)
    grown = [json.loads(json.dumps(record)) for record in bench_train.bench(request)]
    figures = [record["variants"][VARIANT]["batches"][str(BATCH)] for record in grown]
    assert ["fleets_per_program" in batch for batch in figures] == [False, True, True, True, True]
    assert all({"torch", "ms_per_step", "run_h"} <= set(batch) for batch in figures)
    for what, there in (
        ("embed", [False, False, True, True, True]),
        ("torch_loader", [False, False, False, True, True]),
    ):
        assert [what in record["variants"][VARIANT] for record in grown] == there
    assert [record["complete"] for record in grown] == [False, False, False, False, True]
    assert all({"others_share", "memory_peak_bytes"} <= set(record["device"]) for record in grown)


def test_a_counterpart_that_cannot_read_clips_is_refused_before_anything_is_measured(
    tmp_path: Path, patched: None, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "torch_training.py"
    script.write_text(FAKE.replace('"librosa": True', '"librosa": False'))
    monkeypatch.setattr(torch_peer, "SCRIPT", script)
    with pytest.raises(InputError, match=f"expected librosa next to torch .* {sys.executable} -m pip install librosa"):
        next(bench_train.bench(make_request(batches=(BATCH,), against_torch=True)))
    # all six in one program are not compared with a DataLoader
    monkeypatch.setattr(bench_train, "_measure_subject", lambda *_: iter(()))
    assert run_bench(subjects=(bench_train.FLEET,), batches=(BATCH,), against_torch=True)["complete"]


def test_models_of_another_size_are_not_compared(patched: None):
    class Ours:
        def count_parameters(self) -> dict[str, int]:
            return {VARIANT: 2}

    with pytest.raises(InputError, match=f"expected {VARIANT} with 2 parameters as in asdjax, got 1; use"):
        bench_train._require_same_size(Ours(), {VARIANT: 1}, 1.0)  # pyright: ignore[reportArgumentType]


def test_what_a_counterpart_cannot_do_is_told_in_one_line(patched: None):
    with torch_peer.start(1) as peer:
        assert peer.time("train")(3) == pytest.approx(3 * SECONDS_OF_STEP)
        with pytest.raises(InputError, match="failed: RuntimeError: no room"):
            peer.request("fail")
        with pytest.raises(InputError, match="got exit code 3"):
            peer.request("die")


@pytest.fixture(scope="module")
def several_fleets(patched: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "data").mkdir()
    patched.chdir(folder)  # run_h must not depend on recordings in the current folder
    return run_bench(batches=(BATCH,), fleets_per_program=2, traces=folder)


@pytest.mark.slow
def test_a_stack_is_compared_with_one_machine_type_in_the_same_turns(several_fleets: dict[str, Any]):
    figures = several_fleets["variants"][VARIANT]
    several = figures["fleets_per_program"]
    assert several["fleets"] == 2
    assert several["samples_per_s"] == pytest.approx(2 * BATCH / (several["ms_per_step"] / 1e3))
    assert several["memory_bytes"]["arguments"] > 1.9 * figures["memory_bytes"]["arguments"]
    ratio_of_one_turn = 2 * several["one_fleet"]["ms_per_step"] / several["ms_per_step"]
    assert several["ratio"] == pytest.approx(ratio_of_one_turn)


@pytest.mark.slow
def test_hours_are_of_all_steps_and_a_stack_takes_several_machine_types_at_a_time(several_fleets: dict[str, Any]):
    figures = several_fleets["variants"][VARIANT]
    steps = 7 * (250 * 6 * 1000 // BATCH + 5000)
    assert figures["run_h"] == pytest.approx(steps * figures["ms_per_step"] / 3.6e6)
    several = figures["fleets_per_program"]
    assert several["run_h"] == pytest.approx(steps * 4 / 7 * several["ms_per_step"] / 3.6e6)


@pytest.mark.slow
def test_a_profile_says_where_the_time_of_a_step_goes(several_fleets: dict[str, Any]):
    profile = several_fleets["variants"][VARIANT]["profile"]
    assert list(Path(profile["trace"]).rglob("*.xplane.pb"))
    assert {"features", f"{VARIANT} forward", f"{VARIANT} backward", "head", "update"} <= set(profile["parts"])
    assert "FFT" in profile["kinds"]
    in_all = sum(part["ms"] for part in profile["parts"].values())
    assert in_all == pytest.approx(sum(part["ms"] for part in profile["kinds"].values()))
    assert 0 <= profile["idle_ms"] < profile["ms_per_step"]
    times = [operation["ms"] for operation in profile["operations"]]
    assert times == sorted(times, reverse=True)
    assert json.loads(json.dumps(several_fleets, allow_nan=False)) == several_fleets


@pytest.mark.slow
def test_the_tables_of_a_stack_and_a_profile_fit(several_fleets: dict[str, Any]):
    figures = several_fleets["variants"][VARIANT]
    longest = {"name": "%" + "x" * 60, "kind": "grouped convolution", "ms": 12.34567, "bytes": 40}
    batch = figures["batches"][str(BATCH)]
    long_batch = {**batch, "profile": {**batch["profile"], "operations": [longest]}}
    long = {**figures, "batches": {"48": long_batch}}
    whole = {**several_fleets, "variants": {VARIANT: figures, max(VARIANTS, key=len): long}, "fleet": figures}
    printed = bench_table.format_training(whole)
    assert all(len(line) <= 80 for line in printed.splitlines()), printed
    assert f"{figures['fleets_per_program']['run_h']:,.1f} h with 2" in printed
    assert f"{VARIANT}, batch {BATCH}: " in printed
    assert f"{VARIANT} backward" in printed


def test_a_busy_machine_is_told_of(record: dict[str, Any]):
    quiet = {**record, "device": {**record["device"], "others_share": 0.01}}
    busy = {**record, "device": {**record["device"], "others_share": 0.4}}
    assert "Other programs" not in bench_table.format_training(quiet)
    assert "Other programs took 40 % of the cores" in bench_table.format_training(busy)
