"""Measure the systems on folders of recordings, several training seeds each: official score by corpus and system.

    uv run python tests/perf/real_sound.py --out DIR --seeds 0,1,2 CORPUS [CORPUS ...] [--config.FIELD=VALUE ...]

A corpus is a folder that `asdjax check` accepts. Work directories are kept in DIR/<corpus>.<seed>, so a stopped
measurement goes on where it was, and DIR/real_sound.csv holds a row for each system, corpus and seed. The printed
table has the mean over seeds and, after ±, half the distance between the highest and the lowest seed, in %.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import asdjax
from asdjax.runtime.text_table import format_table

#: A size that two CPU cores train in a minute or two: one model at a quarter of the width, 500 steps in all.
SMALL = {
    "width": 0.25,
    "variants": "mobilefacenet_512",
    "train.batch_size": 16,
    "phase1.steps": 400,
    "phase2.steps": 100,
    "data.on_mismatch": "convert",
    "data.layout": "auto",
}
#: Phase 2 can ruin a model as well as help it, so the models of both phases are evaluated.
LINES = {"evaluate.lines": "phase1,phase2_full"}

Scores = dict[tuple[str, str, int], float]


def measure(corpora: Sequence[Path], out: Path, seeds: Sequence[int], overrides: Mapping[str, object]) -> Scores:
    """Return the official scores, as fractions, by system, corpus and seed; write them to a CSV file as they come."""
    out.mkdir(parents=True, exist_ok=True)
    scores: Scores = {}
    with (out / "real_sound.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "corpus", "seed", "official"])
        for seed in seeds:
            for corpus in corpora:
                workdir = out / f"{corpus.name}.{seed}"
                asdjax.train(
                    "own_machines", workdir=workdir, overrides={**overrides, "data.root": str(corpus), "seed": seed}
                )
                for row in asdjax.evaluate(workdir, overrides=LINES).rows:
                    if row.official is not None:
                        scores[row.system, corpus.name, seed] = row.official
                    writer.writerow([row.system, corpus.name, seed, row.official])
                file.flush()
    return scores


def tabulate(scores: Scores) -> str:
    """Return the table of systems by corpus."""
    systems, corpora = (list(dict.fromkeys(key[i] for key in scores)) for i in (0, 1))
    rows = [("official, %", *corpora, "mean")]
    for system in systems:
        by_corpus = [[100 * v for key, v in scores.items() if key[:2] == (system, corpus)] for corpus in corpora]
        cells = [
            f"{mean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}" if values else "-" for values in by_corpus
        ]
        rows.append((system, *cells, f"{mean(map(mean, by_corpus)):.1f}" if all(by_corpus) else "-"))
    return format_table(rows, 120)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    options, others = parser.parse_known_args()
    changes = dict(word.removeprefix("--config.").split("=", 1) for word in others)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    sys.stdout.write(tabulate(measure(options.corpora, options.out, seeds, {**SMALL, **changes})) + "\n")


if __name__ == "__main__":
    main()
