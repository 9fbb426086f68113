"""Soak: train parts on a local Ray with workers killed at random moments, then compare with undisturbed trainings.

    uv venv ray && uv pip install --python ray/bin/python ray
    RAY_PYTHON=ray/bin/python uv run python tests/soak.py --minutes 60 --out soak

It is a command and no test, as it takes more than an hour. It ends with 1 if a model or a logged loss differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.fleet import checkpoints, metric_log

PROJECT = Path(__file__).resolve().parents[1]
MACHINES = ("fan", "pump")
SETTINGS = {
    "variants": "mobilefacenet_512",
    "width": "0.1",
    "optimizer.learning_rate": "0.01",
    "train.batch_size": "4",
    "train.log_every_steps": "20",
    "train.checkpoint_every_steps": "0",
    "train.checkpoint_every_minutes": "0.05",
    "phase2.steps": "1",
    "phase2.strategies": "full",
}
LINE = "phase1"
LIFE_S = (4.0, 25.0)  # of a worker, with the start of asdjax: some end before their first step
SAMPLE_S = 5.0


def main() -> int:
    """Run the soak and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir()
    recipe = Recipe(source_clips=6, target_clips=2, test_clips=1, sections=2, seconds=2.0)
    synthesize(out / "data", recipe, machines=MACHINES)
    os.environ["XDG_CACHE_HOME"] = str(out / "cache")
    train(out, out / "warm", "fan", 2).wait()  # a worker that is killed while it compiles leaves nothing in the cache
    kills = disturb(out, 60 * options.minutes, random.Random(options.seed))
    report = {"minutes": options.minutes, "kills": kills, "runs": {name: compare(out, name) for name in MACHINES}}
    print(json.dumps(report, indent=1))
    return int(not all(run["equal"] and run["resumed"] for run in report["runs"].values()))


def make_words(out: Path, steps: int) -> list[str]:
    """Return the words of a configuration whose phase 1 has some steps."""
    settings = {**SETTINGS, "data.root": str(out / "data"), "phase1.steps": str(steps)}
    return [f"--config.{name}={value}" for name, value in settings.items()]


def disturb(out: Path, seconds: float, moments: random.Random) -> int:
    """Train both machine types in turns of random length until the time is up; return the number of kills."""
    environment = {
        **os.environ,
        "ASDJAX": str(Path(sys.executable).with_name("asdjax")),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}',
    }
    words = ["--parts", str(len(MACHINES)), "dcase2021", str(out / "run"), *make_words(out, 500_000)]
    command = [os.environ["RAY_PYTHON"], str(PROJECT / "launch" / "ray_parts.py"), *words]
    end, kills = time.monotonic() + seconds, 0
    with (out / "ray.log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as ray:
        while time.monotonic() < end and ray.poll() is None:
            if find_workers(ray.pid):
                time.sleep(moments.uniform(*LIFE_S))
            for worker in find_workers(ray.pid):
                kills += kill(worker)
            time.sleep(0.2)
        if ray.poll() is not None:
            sys.exit(f"Ray ended with {ray.returncode}, see {log.name}")
        ray.send_signal(signal.SIGINT)
        for worker in find_workers(ray.pid):
            kill(worker)
    return kills


def find_workers(ray: int) -> list[int]:
    """Return the processes of this Ray that run a part."""
    return [pid for pid in find_processes("-f", "^ray::run_part") if is_below(pid, ray)]


def is_below(pid: int, ancestor: int) -> bool:
    """Return whether a process descends from another."""
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def kill(worker: int) -> int:
    """Kill a worker and the asdjax that it runs, which Ray would send SIGTERM; return the number of asdjax killed."""
    killed, children = 0, find_processes("-P", str(worker))
    for process in (worker, *children):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed += process in children
    return killed


def find_processes(*words: str) -> list[int]:
    """Return the processes that pgrep finds."""
    found = subprocess.run(["pgrep", *words], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def train(out: Path, workdir: Path, name: str, steps: int) -> subprocess.Popen:
    """Start the training of one run with some steps in phase 1."""
    words = ["train", "--config", "dcase2021", "--workdir", str(workdir), "--only", name, *make_words(out, steps)]
    with (out / "train.log").open("a") as log:
        return subprocess.Popen([Path(sys.executable).with_name("asdjax"), *words], stdout=log, stderr=log)


def compare(out: Path, name: str) -> dict:
    """Train a run undisturbed to the newest step that the disturbed one has saved, and compare models and losses."""
    step = checkpoints.set_aside_damaged(out / "run" / name / LINE)
    if not step:
        return {"equal": False, "resumed": 0, "step": step}
    workdir = out / f"undisturbed-{name}"
    samples = list(sample_while(train(out, workdir, name, step), workdir / name))
    digests = [checkpoints.read_digest(folder / name / LINE, step) for folder in (out / "run", workdir)]
    disturbed, undisturbed = (read_losses(folder / name, step) for folder in (out / "run", workdir))
    events = [row["event"] for row in metric_log.read(out / "run" / name / metric_log.FILE) if row.get("event")]
    return {
        "equal": digests[0] == digests[1] and disturbed == undisturbed,
        "step": step,
        "losses": len(disturbed),
        "resumed": events.count("resumed"),
        "undisturbed, MiB and open files, by sample": thin_out(samples),
    }


def read_losses(folder: Path, step: int) -> dict[int, dict[str, str]]:
    """Return the logged losses of phase 1 up to a step, by step."""
    rows = metric_log.read(folder / metric_log.FILE)
    rows = [row for row in rows if row["phase"] == LINE and "loss_hex" in row and row["step"] <= step]
    return {row["step"]: row["loss_hex"] for row in rows if row["step"] % int(SETTINGS["train.log_every_steps"]) == 0}


def sample_while(process: subprocess.Popen, folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the resident memory in MiB and the open files of a process at intervals, from its first save to its end."""
    while process.poll() is None:
        time.sleep(SAMPLE_S)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            files = len(os.listdir(f"/proc/{process.pid}/fd"))
        except OSError:
            return
        memory = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        if memory and checkpoints.list_steps(folder / LINE):
            yield int(memory[0]) // 1024, files


def thin_out(samples: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return at most twelve samples, evenly spread."""
    return samples[:: max(1, len(samples) // 12)]


if __name__ == "__main__":
    sys.exit(main())
