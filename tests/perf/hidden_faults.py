"""Hide faults among training clips and count how many of them come first in the ranking of training clips.

    uv run python tests/perf/hidden_faults.py --out DIR --seeds 0,1,2 [--number 10] CORPUS [CORPUS ...]

A corpus is a folder in the layout of DCASE 2021. Some anomalous test clips of the source domain, spread evenly over
machine types and sections, become training clips, and the rest of the test clips stay. Training and scoring are those
of `real_sound.py`. The table has for each corpus and seed how many of the hidden clips are among the first 10 and 20
training clips of the ranking.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from real_sound import SMALL

import asdjax
from asdjax.data.clips import Clip
from asdjax.data.layouts import read_corpus
from asdjax.evaluation.evaluation_results import EvaluationResults
from asdjax.runtime.text_table import format_table

HEADER = ("path", "machine", "section", "domain", "split", "label", "attributes")
FIRST = (10, 20)


def hide(corpus: Path, folder: Path, number: int) -> None:
    """Write a manifest of links to the clips of a corpus, with some faults as training clips."""
    clips = read_corpus([corpus], "dcase2021").clips
    faults = [clip for clip in clips if clip.label == "anomaly" and clip.domain == "source"]
    by_place: dict[tuple[str, str], list[Clip]] = {}
    for clip in faults:
        by_place.setdefault((clip.machine, clip.section), []).append(clip)
    turns = [clip for row in zip_longest(*by_place.values()) for clip in row if clip]
    hidden = set(turns[:number])
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for clip in clips:
            name = f"{clip.machine}_{'hidden_' if clip in hidden else ''}{clip.name}"
            (folder / name).symlink_to(clip.path.resolve())
            split, label = ("train", "normal") if clip in hidden else (clip.split, clip.label)
            rows.writerow([name, clip.machine, clip.section, clip.domain, split, label, ""])


def count(results: EvaluationResults) -> Iterator[str]:
    """Yield the numbers of hidden clips among the first ones."""
    listed = sorted(
        (clip for of_machine in results.content["training_clips"].values() for clip in of_machine),
        key=lambda clip: -clip["excess"],
    )
    for first in FIRST:
        yield str(sum("_hidden_" in Path(clip["path"]).name for clip in listed[:first]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--number", type=int, default=10)
    parser.add_argument("corpora", nargs="+", type=Path)
    options = parser.parse_args()
    rows: list[Sequence[str]] = [("corpus", "seed", *(f"in first {first}" for first in FIRST))]
    for corpus in options.corpora:
        folder = options.out / corpus.name
        if not folder.exists():
            hide(corpus, folder, options.number)
        for seed in map(int, options.seeds.split(",")):
            workdir = options.out / f"{corpus.name}.{seed}"
            asdjax.train("own_machines", workdir=workdir, overrides={**SMALL, "data.root": str(folder), "seed": seed})
            rows.append((corpus.name, str(seed), *count(asdjax.evaluate(workdir))))
            sys.stdout.write(format_table([rows[0], rows[-1]]) + "\n")
            sys.stdout.flush()
    sys.stdout.write("\n" + format_table(rows) + "\n")


if __name__ == "__main__":
    main()
