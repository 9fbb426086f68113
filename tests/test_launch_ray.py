"""Launcher launch/ray_parts.py on a local Ray, two of whose workers are killed."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, overrides, train_tiny, with_these_networks
from soak import find_workers

from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.fleet import checkpoints
from asdjax.fleet.status import read_status

pytestmark = pytest.mark.usefixtures("shallow")

#: The interpreter of an environment with ray, which asdjax's own does not have.
RAY_PYTHON = os.environ.get("RAY_PYTHON")

MACHINES = ("bearing", "fan", "gearbox", "pump", "slider", "ToyCar", "ToyTrain", "valve")
CHANGES = {"phase1__steps": "30", "phase2__steps": "6", "phase2__strategies": "full", "seed": "0,1"}


@pytest.mark.slow
@pytest.mark.skipif(not RAY_PYTHON, reason="needs RAY_PYTHON, the interpreter of an environment with ray")
def test_parts_on_ray_with_two_workers_killed_give_the_bits_of_one_process(tmp_path: Path):
    recipe = Recipe(source_clips=3, target_clips=2, test_clips=1, sections=2, seconds=2.0)
    synthesize(tmp_path / "data", recipe, machines=MACHINES[1:7])
    assert train_tiny(tmp_path / "data", tmp_path / "one", **CHANGES) == 0
    command = with_these_networks("import sys\nfrom asdjax.cli.main import main\nsys.exit(main(sys.argv[1:]))")
    environment = {
        **os.environ,
        "ASDJAX": shlex.join([sys.executable, "-c", command]),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 4}',
    }
    assert RAY_PYTHON
    config = str(PROJECT / "configs" / "dcase2021.py")
    words = ["--parts", "12", config, str(tmp_path / "run"), *overrides(tmp_path / "data", **CHANGES)]
    script = [RAY_PYTHON, str(PROJECT / "launch" / "ray_parts.py"), *words]
    killed: list[int] = []
    with subprocess.Popen(script, env=environment, cwd=PROJECT) as process:
        while process.poll() is None:
            begun = len(list((tmp_path / "run").glob("*/phase1/*.json")))
            if len(killed) < 2 and begun > 3 * len(killed) and (workers := find_workers(process.pid)):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
            time.sleep(0.2)
    assert process.returncode == 0
    assert len(set(killed)) == 2
    assert {run.state for run in read_status(tmp_path / "run")} == {"done"}
    lines = sorted((tmp_path / "one").glob("*/phase*"))
    assert len(lines) == 24
    for line in lines:
        other = tmp_path / "run" / line.relative_to(tmp_path / "one")
        last = checkpoints.list_steps(line)[-1]
        assert checkpoints.read_digest(other, last) == checkpoints.read_digest(line, last)
    assert (tmp_path / "run" / "evaluation" / "dev" / "results.json").exists()
