"""Show each warning of `evaluate` on recordings that deserve it, and its silence on others.

    uv run python tests/perf/doubtful_corpora.py --out DIR [--only NAME,...]

Every corpus is made of the synthetic fan: as it is, or spoilt in the way that a warning is for. The table has for each
the warnings that it deserves, those that were missing, and those that were given besides. The exit code is 1 if a
warning is missing or is on the unspoilt fan.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from real_sound import SMALL

import asdjax
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.runtime.text_table import format_table

RATE_HZ = 16_000


def make_fan(folder: Path, **recipe: Any) -> None:
    """Write clips of 2 s of a fan."""
    settings = {"source_clips": 40, "test_clips": 12, "sections": 3, "seconds": 2.0} | recipe
    synthesize(folder, Recipe(**settings), machines=("fan",))


def add_tone(folder: Path, pattern: str, hz: Callable[[str], float]) -> None:
    """Write a fan with a loud tone in some of its clips; `hz` returns a tone's frequency for a file name."""
    make_fan(folder)
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    for path in (folder / "fan").glob(pattern):
        samples = soundfile.read(path)[0] + 0.1 * np.sin(2 * np.pi * hz(path.name) * time)
        soundfile.write(path, np.clip(samples, -1, 0.999), RATE_HZ, subtype="PCM_16")


def shuffle_sections(folder: Path) -> None:
    """Write one fan, whose clips are three sections by turns: classes that do not differ."""
    make_fan(folder, sections=1, source_clips=60, test_clips=36)
    for number, path in enumerate(sorted((folder / "fan").glob("*/*.wav"))):
        path.rename(path.with_name(path.name.replace("section_00", f"section_{number % 3:02}")))


def copy_clips(folder: Path) -> None:
    """Write a fan whose training clips are copies but for a few."""
    make_fan(folder)
    for section in ("00", "01", "02"):
        clips = sorted((folder / "fan" / "train").glob(f"section_{section}_source*.wav"))
        for path in clips[8:]:
            shutil.copy(clips[0], path)


def silence_one(folder: Path) -> None:
    """Write a fan with one silent training clip."""
    make_fan(folder)
    path = min((folder / "fan" / "train").glob("section_00_source*.wav"))
    soundfile.write(path, np.zeros(2 * RATE_HZ), RATE_HZ, subtype="PCM_16")


class Corpus(NamedTuple):
    """How a corpus is written, the warnings that it deserves, configuration fields, and whether faults are mixed in."""

    write: Callable[[Path], None]
    deserved: frozenset[str]
    fields: Mapping[str, object] = {}
    sensitivity: bool = False


CORPORA = {
    "as made": Corpus(make_fan, frozenset(), sensitivity=True),
    "one section": Corpus(
        lambda folder: make_fan(folder, sections=1), frozenset({"no models"}), {"data.classes": "section"}
    ),
    "a tone for each section": Corpus(
        lambda folder: add_tone(folder, "*/*.wav", lambda name: 500.0 * (1 + int(name[8:10]))),
        frozenset({"classes too easy"}),
    ),
    "sections by turns": Corpus(
        shuffle_sections, frozenset({"classes not learned"}), {"phase1.steps": 60, "seed": (0, 1, 2)}
    ),
    "sections by turns for longer": Corpus(
        shuffle_sections, frozenset({"known by heart"}), {"phase1.steps": 500, "train.holdout_fraction": 0.25}
    ),
    "eight clips": Corpus(lambda folder: make_fan(folder, source_clips=5), frozenset({"few training clips"})),
    "copies": Corpus(copy_clips, frozenset({"training clips alike"})),
    "one silent clip": Corpus(silence_one, frozenset({"training clip unlike the others"})),
    "a tone in the test clips": Corpus(
        lambda folder: add_tone(folder, "*_test/*.wav", lambda _: 1200.0), frozenset({"nearly all are alarms"})
    ),
    "a tone in the target domain": Corpus(
        lambda folder: add_tone(folder, "*/*target*.wav", lambda _: 1200.0),
        frozenset({"false alarms"}),
        {"evaluate.threshold_per": "machine"},
    ),
    "five steps": Corpus(
        make_fan,
        frozenset({"models below simple detectors"}),
        {"phase1.steps": 5, "phase2.steps": 5},
        sensitivity=True,
    ),
}


def show(name: str, corpus: Corpus, out: Path) -> list[str]:
    """Return a row of the table."""
    folder = out / name.replace(" ", "_").replace(",", "")
    if not (folder / "data").exists():
        corpus.write(folder / "data")
    fields = {**SMALL, "phase1.steps": 150, "phase2.steps": 50, **corpus.fields, "data.root": str(folder / "data")}
    asdjax.train("own_machines", workdir=folder / "run", overrides=fields)
    results = asdjax.evaluate(folder / "run", sensitivity=corpus.sensitivity)
    for warning in results.warnings:
        sys.stdout.write(f"{name}: {warning}\n")
    sys.stdout.flush()
    given = {warning["kind"] for warning in results.content["warnings"]}
    return [
        name,
        ", ".join(sorted(corpus.deserved)) or "none",
        ", ".join(sorted(corpus.deserved - given)) or "-",
        ", ".join(sorted(given - corpus.deserved)) or "-",
    ]


def main() -> int:
    """Print the table; return 1 if a warning is missing or is on the unspoilt fan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(CORPORA))
    options = parser.parse_args()
    rows = [show(name, CORPORA[name], options.out) for name in options.only.split(",")]
    sys.stdout.write(format_table([("corpus", "deserved", "missing", "unasked"), *rows], 160, left=4) + "\n")
    return any(row[2] != "-" or (row[0] == "as made" and row[3] != "-") for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
