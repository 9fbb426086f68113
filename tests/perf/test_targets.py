"""Devices to plan for: names, errors and data sheets."""

from importlib.util import find_spec

import pytest
from conftest import PROJECT, python

from asdjax.cli.main import main
from asdjax.perf import gpu_targets
from asdjax.perf.datasheets import find_datasheet
from asdjax.runtime import hardware

CONFIG = str(PROJECT / "configs" / "dcase2021.py")
CUDA = "jax_cuda13_plugin"
PLAN = "import sys; from asdjax.cli.main import main; sys.exit(main(['plan', *sys.argv[1:]]))"


@pytest.mark.parametrize(
    "devices",
    ["", "v5e", "v5e:0x1", "gpu:2x2", "cpu:1x1", "V5E:2x2", "cpu:-1", "h200", "h200:1x8", "b200:1", "v100:1"],
)
def test_names_of_no_devices_are_refused_in_one_line(devices: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, "--devices", devices]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--devices: expected a TPU's generation and shape (v5e:4x4, v5p:2x2x1, v6e:2x2), one to 8 " in line
    assert "of h200, h100, a100 (h200:8), gpu:N for GPUs of this machine or cpu:N" in line
    assert f"got {devices!r}" in line


def test_more_parts_of_a_processor_than_can_be_made_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, "--devices", "cpu:99999"]) == 2
    assert "--devices: expected at most cpu:1024, got cpu:99999" in capsys.readouterr().err


def test_gpus_that_are_not_here_are_refused(capsys: pytest.CaptureFixture[str]):
    if hardware.on_accelerator():
        pytest.skip("there is a GPU here")
    assert main(["plan", "--config", CONFIG, "--devices", "gpu:2"]) == 2
    said = capsys.readouterr().err
    assert "--devices gpu:2: expected 2 GPUs in this machine, got 0; for GPUs of other machines use h200:N" in said


@pytest.mark.skipif(bool(find_spec(CUDA)), reason="JAX's plugin for CUDA is here")
def test_gpus_that_are_not_here_without_the_plugin_are_refused():
    ran = python(PLAN, "--config", CONFIG, "--devices", "h200:1")
    assert ran.returncode == 2
    assert "--devices h200:1: expected JAX's plugin for CUDA" in ran.stderr
    assert "install asdjax[cuda]" in ran.stderr


@pytest.mark.parametrize("name", list(gpu_targets.GPUS))
def test_a_gpu_that_is_not_here_has_a_data_sheet_and_the_part_of_its_memory_that_jax_takes(name: str):
    sheet = find_datasheet(gpu_targets.GPUS[name].kind)
    assert sheet is not None
    assert gpu_targets.estimate_memory(sheet) == 0.75 * sheet.memory_bytes


@pytest.mark.parametrize("devices", ["v5e:3x5", pytest.param("v9z:2x2", marks=pytest.mark.slow), "tpu7x:2x2x1"])
def test_a_tpu_that_does_not_exist_or_without_libtpu_is_refused(devices: str):
    ran = python(PLAN, "--config", CONFIG, "--devices", devices)
    assert ran.returncode == 2
    assert f"--devices {devices}: expected a TPU's generation and shape" in ran.stderr
    assert "install asdjax[tpu]" in ran.stderr


@pytest.mark.parametrize(
    ("kind", "memory"), [("TPU v5 lite", 16 * 2**30), ("TPU v5", 95 * 2**30), ("NVIDIA H200", 141e9), ("cpu", None)]
)
def test_data_sheets_are_found_by_the_kind_of_device(kind: str, memory: float | None):
    sheet = find_datasheet(kind)
    assert (sheet.memory_bytes if sheet else None) == memory
