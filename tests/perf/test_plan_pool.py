"""`asdjax plan` for a pool: figures by hand, its limits, and its errors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, SHALLOW, overrides
from test_plan import COST, TARGET

from asdjax.cli.main import main
from asdjax.config.fields import Config, default_config
from asdjax.fleet import fleet_model
from asdjax.perf import plan, plan_pool
from asdjax.perf.plan_table import format_plan
from asdjax.perf.planned_step import CycleEstimate
from asdjax.perf.targets import is_pool, split_pool

pytestmark = pytest.mark.usefixtures("shallow")

CONFIG = str(PROJECT / "configs" / "dcase2021.py")
ONE = replace(TARGET, devices=TARGET.devices[:1], memory_bytes=2e9)
CHEAP = replace(COST, collectives={}, bytes_sent=0, estimate=CycleEstimate(cycles=0, bytes_without=0))


@pytest.fixture(autouse=True)
def never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every step the same cost."""
    monkeypatch.setattr(plan_pool, "parse_target", lambda _: ONE)
    monkeypatch.setattr(plan, "find_cost", lambda *_: CHEAP)


def small_config(corpus: Path) -> Config:
    config = default_config()
    config.data.root, config.width, config.variants = (str(corpus),), SHALLOW, ("mobilefacenet_512",)
    config.phase1.steps, config.phase2.steps = 60_000, 30_000
    return config


@pytest.mark.parametrize(
    ("name", "one", "number"),
    [("h200:512", "h200:1", 512), ("v5e:16x16", "v5e:1x1", 256), ("v5p:2x2x4", "v5p:1x1x1", 16), ("cpu:3", "cpu:1", 3)],
)
def test_a_pool_is_split_into_single_devices(name: str, one: str, number: int):
    assert split_pool(name) == (one, number)


def test_more_gpus_than_a_host_has_are_a_pool():
    assert is_pool("h200:9")
    assert not any(map(is_pool, ("h200:8", "v5e:16x16", "cpu:64", "nonsense")))


def test_a_pool_by_hand(corpus: Path):
    config = small_config(corpus)
    found = plan_pool.plan_pool(config, "h200:10", 100, 0.02)
    pool = found["pool"]
    # 100 fleets leave four parts for each of ten devices in parts of two, 50 in all: five rounds
    assert (pool["parts"], pool["fleets_per_part"], pool["rounds"], pool["idle_devices"]) == (50, 2, 5, 0)
    part_s = plan_pool.START_S + 2 * 0.02 * 90_000
    assert pool["part_s"] == pytest.approx(part_s)
    assert (pool["limit"], pool["hours"]) == ("devices", pytest.approx(5 * part_s / 3600))
    # phases of 1200 and 600 s: two and one saves in ten minutes, and the last one of each phase
    shapes = fleet_model.describe_model(fleet_model.make_spec(config, found["work"]["classes"]))
    parameters, statistics = (sum(4 * np.prod(a.shape) for a in part["mobilefacenet_512"].values()) for part in shapes)
    written = 3 * (2 * parameters + statistics) + 2 * (parameters + statistics)
    assert pool["saves"] == {
        "bytes_written": written,
        "operations": 3 * plan_pool.SAVE_OPERATIONS + 2 * plan_pool.LAST_SAVE_OPERATIONS,
        "bytes_kept": 2 * (2 * parameters + statistics) + 2 * (parameters + statistics),
    }
    assert pool["bytes_per_s"] == pytest.approx(10 * 2 * written / part_s)
    assert pool["checkpoint_bytes"] == 100 * pool["saves"]["bytes_kept"]
    assert found["fleet"]["fleets_per_program"] == 1
    assert config.parallel == default_config().parallel


def test_the_measured_time_is_one_fleet_s_and_a_program_of_several_takes_as_much_longer(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plan_pool, "parse_target", lambda _: replace(ONE, platform="gpu", memory_bytes=100e9))
    found = plan_pool.plan_pool(small_config(corpus), "h200:10", 100, 0.02)
    assert found["fleet"]["fleets_per_program"] == found["pool"]["fleets_per_part"] == 2
    assert found["pool"]["step_s"] == pytest.approx(0.04)
    assert found["pool"]["part_s"] == pytest.approx(plan_pool.START_S + 2 * 0.02 * 90_000)
    assert "fleets    2 in the largest part, 2 per program" in format_plan(found)


def test_a_pool_larger_than_the_fleets_is_limited_by_one_of_them(corpus: Path):
    pool = plan_pool.plan_pool(small_config(corpus), "h200:512", None, None)["pool"]
    assert (pool["fleets"], pool["parts"], pool["idle_devices"], pool["limit"]) == (1, 1, 511, "length of a part")
    assert pool["step_source"] == "roofline, a lower bound"
    assert pool["step_s"] == pytest.approx(1e9 / 1e11)


def test_a_shared_disk_limits_a_pool_that_is_large_enough(corpus: Path):
    config = small_config(corpus)
    config.train.checkpoint_every_minutes = 0.1
    pool = plan_pool.plan_pool(config, "h200:10000", 10_000, 0.02)["pool"]
    assert pool["limit"] == "file operations"
    seconds = 10_000 * pool["saves"]["operations"] / plan_pool.STORAGE_OPERATIONS_PER_S
    assert pool["hours"] == pytest.approx(seconds / 3600)
    assert pool["hours"] > pool["hours_by_limit"]["length of a part"]


def test_the_command_prints_the_pool_in_80_columns(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "plan.json"
    words = ["--fleets", "4200", "--step-ms", "22.8", "--json", str(out), *overrides(corpus)]
    assert main(["plan", "--config", CONFIG, "--devices", "h200:512", *words]) == 0
    printed = capsys.readouterr().out
    assert "4,200 fleets in" in " ".join(printed.split())
    assert "22.8 ms a step (measured)" in " ".join(printed.split())
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert json.loads(out.read_text())["pool"]["fleets"] == 4200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", "h200:8", "--step-ms", "22"], "step-ms: expected a pool"),
        (["--devices", "h200x9", "--fleets", "2"], "--devices: expected a TPU's generation and shape"),
        (["--devices", "b200:512", "--fleets", "2"], "got 'b200:512'"),
        (["--devices", "h200:2x8", "--fleets", "2"], "got 'h200:2x8'"),
    ],
)
def test_a_wrong_request_is_refused(words: list[str], message: str, corpus: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, *words, *overrides(corpus)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"), [("--fleets", "0"), ("--fleets", "1.5"), ("--step-ms", "-1"), ("--step-ms", "nan")]
)
def test_a_wrong_number_is_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--config", CONFIG, "--devices", "h200:9", flag, value])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument {flag}: expected" in line
    assert f"got '{value}'" in line


def test_without_a_data_sheet_the_time_of_a_step_is_asked_for(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(plan_pool, "parse_target", lambda _: replace(ONE, sheet=None))
    assert main(["plan", "--config", CONFIG, "--devices", "cpu:4", "--fleets", "8", *overrides(corpus)]) == 2
    assert "expected the time of a step, got none, and a TPU has no data sheet" in capsys.readouterr().err
