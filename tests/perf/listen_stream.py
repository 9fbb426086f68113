"""Play a synthetic machine to `asdjax listen` through a pipe, in real time or as fast as it listens.

    uv run python tests/perf/listen_stream.py --out DIR play
    uv run python tests/perf/listen_stream.py --out DIR speed [--minutes 60] [--full-size]

`play` lasts ten minutes; a fault begins at minute six. It prints the states, the latency of the alarm and of each line,
the share of a core, and memory. `speed` plays without waiting and prints how many times real time it keeps, memory and
open files. Work directories are kept in DIR. `--full-size` listens with all six variants at their full width, trained
for two steps, as their speed does not depend on what they learned.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import IO, NamedTuple

import numpy as np
import soundfile
from real_sound import SMALL

import asdjax
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.runtime.text_table import format_table

RATE_HZ = 16_000
NORMAL_S, FAULT_S, BLOCK_S = 360, 240, 0.1
#: Overrides of the smallest training that has all six variants at their full width.
FULL = {"train.batch_size": 2, "phase1.steps": 2, "phase2.steps": 1, "data.layout": "auto", "evaluate.lines": "phase1"}


def prepare(out: Path, *, full_size: bool) -> Path:
    """Return a work directory with an evaluated fan; train it if there is none."""
    recipe = Recipe(source_clips=6, test_clips=2) if full_size else Recipe(source_clips=60, test_clips=10, seconds=6.0)
    workdir = out / ("full" if full_size else "small")
    corpus = workdir.with_name(f"{workdir.name}-clips")
    synthesize(corpus, recipe, machines=("fan",))
    fields = FULL if full_size else SMALL
    asdjax.train("own_machines", workdir=workdir, overrides={**fields, "data.root": str(corpus)})
    if not (workdir / "evaluation" / "dev" / "results.json").exists():
        asdjax.evaluate(workdir)
    return workdir


def make_stream(out: Path) -> np.ndarray:
    """Return ten minutes of a fan, int16 (s,), of which the last four are faulty."""
    recipe = Recipe(source_clips=1, test_clips=1, target_clips=0, sections=1, seconds=NORMAL_S)
    synthesize(out / "long", recipe, machines=("fan",))
    paths = [min((out / "long").rglob(f"source_test/section_00*{label}*.wav")) for label in ("normal", "anomaly")]
    normal, fault = (soundfile.read(path, dtype="int16")[0] for path in paths)
    return np.concatenate([normal, fault[: FAULT_S * RATE_HZ]])


class Heard(NamedTuple):
    """A line of `listen`, and when it came."""

    row: dict
    at: float


class Used(NamedTuple):
    """What a process has used: seconds of computation, MiB of memory, open files."""

    cpu_s: float
    memory_mib: float
    files: int


def measure(pid: int) -> Used:
    """Return what a process has used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Used(ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd")))


class Listening:
    """A running `asdjax listen`, whose lines are collected as they come."""

    def __init__(self, workdir: Path) -> None:
        words = ["listen", "--workdir", str(workdir), "--machine", "fan", "--section", "00", "--rate", str(RATE_HZ)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asdjax", *words, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin
        self.sound: IO[bytes] = self.process.stdin
        self.heard: list[Heard] = []
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()

    def end(self) -> None:
        """Close the stream and wait until all is heard."""
        self.sound.close()
        self._reader.join()
        if self.process.wait():
            raise SystemExit(f"asdjax listen ended with {self.process.returncode}")

    def wait_for_lines(self) -> None:
        """Wait until the first line comes: programs are compiled."""
        while not self.heard and self.process.poll() is None:
            sleep(0.05)

    def _collect(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.heard.append(Heard(json.loads(line), monotonic()))


def blocks(stream: np.ndarray) -> Iterator[bytes]:
    """Yield the stream's bytes in blocks of BLOCK_S."""
    size = round(BLOCK_S * RATE_HZ)
    yield from (stream[at : at + size].tobytes() for at in range(0, len(stream), size))


def play(workdir: Path, stream: np.ndarray) -> list[tuple[str, str]]:
    """Play a stream in real time; return the rows of a table."""
    listening = Listening(workdir)
    begun, used = monotonic(), []
    for number, block in enumerate(blocks(stream)):
        sleep(max(0.0, begun + (number + 1) * BLOCK_S - monotonic()))
        listening.sound.write(block)
        listening.sound.flush()
        if number * BLOCK_S % 60 == 30:
            used.append((monotonic(), measure(listening.process.pid)))
    listening.end()
    moments = [one for one in listening.heard if "event" not in one.row]
    late = [one.at - begun - one.row["seconds"] for one in moments if one.row["seconds"] > 90]
    (first_at, first), (last_at, last) = used[1], used[-1]
    alarms = [one.row["seconds"] for one in moments if one.row["state"] == "alarm"]
    states = groupby(one.row["state"] for one in moments)
    return [
        ("states, and their scores", ", ".join(f"{state} {len(list(group))}" for state, group in states)),
        ("seconds of alarm before the fault", f"{1.024 * sum(at < NORMAL_S for at in alarms):.0f}"),
        ("fault to alarm", f"{min((at for at in alarms if at > NORMAL_S), default=np.nan) - NORMAL_S:.1f} s"),
        ("a line after its last sample", f"{median(late):.2f} s, at most {max(late):.2f}"),
        ("share of a core", f"{100 * (last.cpu_s - first.cpu_s) / (last_at - first_at):.0f} %"),
        ("memory after 1.5 and 9.5 minutes", f"{first.memory_mib:.0f} and {last.memory_mib:.0f} MiB"),
        ("remarks", ", ".join(one.row["event"] for one in listening.heard if "event" in one.row) or "none"),
    ]


def race(workdir: Path, stream: np.ndarray, minutes: int) -> list[tuple[str, str]]:
    """Play a stream, again and again, as fast as it is listened to; return the rows of a table."""
    listening = Listening(workdir)
    listening.sound.write(stream[: 30 * RATE_HZ].tobytes())
    listening.sound.flush()
    listening.wait_for_lines()
    begun, used = monotonic(), []
    for minute in range(minutes):
        at = minute * 60 * RATE_HZ % len(stream)
        listening.sound.write(stream[at : at + 60 * RATE_HZ].tobytes())
        if minute in (minutes // 10, minutes // 2, minutes - 1):
            used.append(measure(listening.process.pid))
    listening.end()
    seconds = listening.heard[-1].at - begun
    return [
        ("minutes of sound", str(minutes)),
        ("times real time", f"{60 * minutes / seconds:.1f}"),
        ("memory after a tenth, a half and all, MiB", ", ".join(f"{one.memory_mib:.0f}" for one in used)),
        ("open files then", ", ".join(str(one.files) for one in used)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("play", "speed"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    workdir, stream = prepare(options.out, full_size=options.full_size), make_stream(options.out)
    rows = play(workdir, stream) if options.what == "play" else race(workdir, stream, options.minutes)
    sys.stdout.write(format_table([("listening", ""), *rows], 120) + "\n")


if __name__ == "__main__":
    main()
