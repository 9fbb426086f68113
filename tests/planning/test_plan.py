"""`asdjax plan`: what it refuses, and its figures against what is known otherwise."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT, overrides, python

from asdjax import parallel
from asdjax.cli import main
from asdjax.config import default
from asdjax.datasheets import Datasheet, of_kind
from asdjax.planning import plan
from asdjax.planning.collectives import collectives_of
from asdjax.planning.program import Cost
from asdjax.planning.table import of_plan
from asdjax.planning.targets import Target
from asdjax.planning.work import work_of
from asdjax.training import fleet, optimizer

CONFIG = str(PROJECT / "configs" / "dcase2021.py")
PLAN = "import sys; from asdjax.cli import main; sys.exit(main(['plan', *sys.argv[1:]]))"


def planned(devices: str, corpus: Path, out: Path, **changes: str) -> tuple[dict[str, Any], str]:
    """What `asdjax plan` writes as JSON, and what it says, in a process whose devices are its own."""
    words = ["--config", CONFIG, "--devices", devices, "--json", str(out), *overrides(corpus, **changes)]
    ran = python(PLAN, *words)
    assert ran.returncode == 0, ran.stderr
    return json.loads(out.read_text()), ran.stderr


@pytest.mark.parametrize("devices", ["", "v5e", "v5e:0x1", "v5e:2x", "gpu:2x2", "cpu:1x1", "V5E:2x2", "cpu:-1"])
def test_names_of_no_devices_are_refused_in_one_line(devices: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, "--devices", devices]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--devices: expected a TPU's generation and shape (v5e:4x4, v5p:2x2x1, v6e:2x2), gpu:N or cpu:N" in line
    assert f"got {devices!r}" in line


def test_gpus_that_are_not_here_are_refused(capsys: pytest.CaptureFixture[str]):
    if parallel.on_accelerator():
        pytest.skip("there is a GPU here")
    assert main(["plan", "--config", CONFIG, "--devices", "gpu:2"]) == 2
    assert "--devices gpu:2: expected 2 GPUs in this machine" in capsys.readouterr().err


@pytest.mark.parametrize("devices", ["v5e:3x5", "v9z:2x2"])
def test_a_tpu_that_does_not_exist_or_without_libtpu_is_refused(devices: str):
    ran = python(PLAN, "--config", CONFIG, "--devices", devices)
    assert ran.returncode == 2
    assert f"--devices {devices}: expected a TPU's generation and shape" in ran.stderr
    assert "pip install 'asdjax[tpu]'" in ran.stderr


@pytest.mark.usefixtures("quickly_compiled")
def test_a_step_over_eight_devices_has_an_eighth_on_each_and_reduces_every_gradient(corpus: Path, tmp_path: Path):
    changes = {"train__batch_size": "8"}
    alone, said = planned("cpu:1", corpus, tmp_path / "1.json", **changes)
    assert "compiling for cpu:1" in said
    shared, _ = planned("cpu:8", corpus, tmp_path / "8.json", **changes)
    assert alone["step"]["collectives"] == {}
    assert alone["step"]["bytes_sent"] == 0
    assert shared["fleet"]["batch_per_device"] == 1
    assert 0.1 < shared["step"]["flops"] / alone["step"]["flops"] < 0.3
    assert shared["step"]["temporaries"] < alone["step"]["temporaries"]
    gradients = parameter_bytes(corpus)
    assert gradients <= shared["step"]["bytes_sent"] / (2 * 7 / 8) < 2 * gradients
    assert alone["memory"]["fits"] is None
    assert alone["roofline"] is None
    assert all(len(line) <= 80 for line in of_plan(shared).splitlines())

    again, said = planned("cpu:1", corpus, tmp_path / "again.json", **changes)
    assert "compiling" not in said
    assert again == alone


def parameter_bytes(corpus: Path) -> int:
    """What all-reducing a gradient of every parameter of conftest.TINY takes."""
    config = default()
    config.variants, config.width, config.data.root = ("resnet50_512",), 0.125, (str(corpus),)
    spec = fleet.spec_of(config, len(work_of(config).task.classes), optimizer.GROUPS)
    return sum(4 * math.prod(a.shape) for a in fleet.abstract_model(spec).parameters["resnet50_512"].values())


def test_what_does_not_exist_yet_is_planned_at_the_size_of_2021():
    work = work_of(default())
    assert work.origin == "data is not here: planned for clips as many and as long as in 2021"
    assert (len(work.task.classes), len(work.task.clips), set(work.lengths)) == (6, 6018, {160_000})
    # 250 epochs of 6,000 source clips at a batch of 48, and 5,000 steps on the target domain, of seven machine types
    assert (work.tasks, work.steps) == (7, 7 * (250 * 6000 // 48 + 5000))


def test_clips_are_counted_as_they_lie_there(corpus: Path):
    config = default()
    config.data.root = (str(corpus),)
    work = work_of(config)
    assert work.origin == str(corpus)
    assert (len(work.task.clips), set(work.lengths)) == (2 * (4 + 2), {32_000})


SHEET = Datasheet(flops_per_s=1e12, bytes_per_s=1e11, memory_bytes=1e9, interconnect_bytes_per_s=1e10)
COST = Cost(2e9, 1e9, 4e8, 5e8, 1e6, {"all-reduce": 3}, 1e7, 60)


def test_the_roofline_by_hand(corpus: Path):
    config = default()
    config.data.root = (str(corpus),)
    work = work_of(config)
    target = Target("tpu:2", "tpu", [0, 1], "a TPU", SHEET)
    roofline = plan.roofline_of(config, COST, work, target)
    assert roofline is not None
    np.testing.assert_allclose(
        [roofline[what] for what in ("arithmetic_s", "memory_s", "collectives_s", "step_s", "collectives_share")],
        [2e-3, 1e-2, 1e-3, 1.1e-2, 1 / 11],
    )
    np.testing.assert_allclose(roofline["run_s"], 1.1e-2 * work.steps)
    assert plan.memory_of(COST, target) == {"needed": 9.01e8, "there": 1e9, "fits": True}


def test_what_does_not_fit_is_told_and_is_exit_code_2(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    target = Target("tpu:2", "tpu", [0, 1], "a TPU", SHEET._replace(memory_bytes=5e8))
    monkeypatch.setattr(plan, "target_of", lambda _: target)
    monkeypatch.setattr(plan, "cost_of", lambda *_: COST)
    assert main(["plan", "--config", CONFIG, "--devices", "any", *overrides(corpus)]) == 2
    assert "it has 0.47: DOES NOT FIT" in " ".join(capsys.readouterr().out.split())


HLO = """
  %all-reduce.1 = (f32[64]{0}, f32[3,3,64,64]{3,2,1,0:T(8,128)}) all-reduce(%a, %b), channel_id=1
  %ag = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%c), channel_id=2
  %ag.done = bf16[16,8]{1,0} all-gather-done(%ag)
  %rs = f32[10]{0} reduce-scatter(%d), channel_id=3
  %cp = (s32[5]{0}, s32[5]{0}, u32[], u32[]) collective-permute-start(%e), channel_id=4
  %add = f32[64]{0} add(%all-reduce.1, %f)
"""


def test_collectives_by_hand():
    found = collectives_of(HLO, devices=4)
    assert found.numbers == {"all-reduce": 1, "all-gather": 1, "reduce-scatter": 1, "collective-permute": 1}
    reduced, gathered, scattered, permuted = 4 * (64 + 9 * 64 * 64), 2 * 16 * 8, 4 * 10, 4 * 5
    assert found.bytes_sent == 0.75 * (2 * reduced + gathered + 4 * scattered) + permuted


@pytest.mark.parametrize(
    ("kind", "memory"), [("TPU v5 lite", 16 * 2**30), ("TPU v5", 95 * 2**30), ("NVIDIA H200", 141e9), ("cpu", None)]
)
def test_data_sheets_are_found_by_the_kind_of_device(kind: str, memory: float | None):
    sheet = of_kind(kind)
    assert (sheet.memory_bytes if sheet else None) == memory


@pytest.mark.slow
def test_a_tpu_that_is_not_here(corpus: Path, tmp_path: Path):
    if not find_spec("libtpu"):
        pytest.skip("needs the package libtpu (asdjax[tpu])")
    found, _ = planned("v5e:1x1", corpus, tmp_path / "plan.json")
    assert found["memory"] == {**found["memory"], "there": 16 * 2**30, "fits": True}
    assert found["roofline"]["step_s"] > 0
