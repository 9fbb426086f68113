"""Measure the systems on folders of recordings, several training seeds each: official score by corpus and system.

    uv run python tests/perf/real_sound.py --out DIR --seeds 0,1,2 CORPUS [CORPUS ...] [--no-sensitivity]
        [--config.FIELD=VALUE ...]

A corpus is a folder that `asdjax check` accepts. Work directories are kept in DIR/<corpus>.<seed>, so a stopped
measurement goes on where it was, and DIR/real_sound.csv holds a row for each system, corpus and seed. Printed are:
official scores, mean over seeds and, after ±, half the distance between the highest and the lowest seed, in %; false
alarms on normal test clips by domain, over all seeds, with Wilson's 95 % interval; and Spearman's correlation of
official scores with the AUC on clips that faults were mixed into (`evaluate --sensitivity`), over systems and seeds.
Mixing takes as long as the rest; `--no-sensitivity` leaves it and the correlations out.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from scipy import stats

import asdjax
from asdjax.evaluation import clip_table
from asdjax.evaluation.evaluation_results import EvaluationResults
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


class Measured(NamedTuple):
    """What was measured of a system: the official score, the AUC on mixed clips, and (alarms, normals) by domain."""

    official: float
    mixed_auc: float | None
    alarms: dict[str, tuple[int, int]]


#: By system, corpus and seed.
Results = dict[tuple[str, str, int], Measured]


def measure(
    corpora: Sequence[Path], out: Path, seeds: Sequence[int], overrides: Mapping[str, object], *, sensitivity: bool
) -> Results:
    """Return what was measured; write it to a CSV file as it comes."""
    out.mkdir(parents=True, exist_ok=True)
    measured: Results = {}
    with (out / "real_sound.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "corpus", "seed", "official", "mixed_auc", "alarms"])
        for seed in seeds:
            for corpus in corpora:
                workdir = out / f"{corpus.name}.{seed}"
                changes = {**overrides, "data.root": str(corpus), "seed": seed}
                asdjax.train("own_machines", workdir=workdir, overrides=changes)
                results = asdjax.evaluate(workdir, sensitivity=sensitivity)
                for name, system in results.systems.items():
                    if system.official is not None:
                        one = Measured(system.official, _find_auc(results, name), _count_alarms(results, name))
                        measured[name, corpus.name, seed] = one
                        writer.writerow([name, corpus.name, seed, *one])
                for warning in results.warnings:
                    sys.stdout.write(f"{corpus.name}, seed {seed}: {warning}\n")
                file.flush()
                sys.stdout.flush()
    return measured


def _find_auc(results: EvaluationResults, system: str) -> float | None:
    """Return the mean over machine types of the AUC on mixed clips; None for a system with selected models."""
    by_machine = results.content["sensitivity"].get(system, {})
    areas = [one["auc"] for one in by_machine.values() if one["auc"] is not None]
    return mean(areas) if areas else None


def _count_alarms(results: EvaluationResults, system: str) -> dict[str, tuple[int, int]]:
    """Return alarms on normal test clips and the number of these, by domain."""
    table = clip_table.read(results.folder / "clips" / f"{system}.csv", results.content["clips"][system])
    counts: dict[str, tuple[int, int]] = {}
    for row in table:
        if row.split == "test" and row.clip.label == "normal":
            alarms, normals = counts.get(domain := row.clip.domain or "all", (0, 0))
            counts[domain] = alarms + bool(row.clip.decision), normals + 1
    return counts


def tabulate_alarms(measured: Results, systems: Sequence[str] = ("all_mean", "combined")) -> str:
    """Return the table of false alarms by system, corpus and domain, in %, pooled over seeds."""
    rows = [("false alarms, %", "corpus", "domain", "share", "interval", "normal clips")]
    for system in systems:
        counts: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for (name, corpus, _), one in measured.items():
            if name == system:
                for domain, count in one.alarms.items():
                    counts.setdefault((corpus, domain), []).append(count)
                    counts.setdefault(("all", domain), []).append(count)
        for (corpus, domain), several in sorted(counts.items(), key=lambda item: item[0][::-1]):
            alarms, normals = map(sum, zip(*several, strict=True))
            interval = stats.binomtest(alarms, normals).proportion_ci(method="wilson")
            limits = f"{100 * interval.low:.1f}-{100 * interval.high:.1f}"
            rows.append((system, corpus, domain, f"{100 * alarms / normals:.1f}", limits, str(normals)))
    return format_table(rows, 120, left=3)


def tabulate_correlations(measured: Results) -> str:
    """Return the table of rank correlations between official scores and AUC on mixed clips."""
    rows = [("corpus", "rank correlation", "systems and seeds")]
    for corpus in dict.fromkeys(key[1] for key in measured):
        pairs = [
            (one.official, one.mixed_auc)
            for key, one in measured.items()
            if key[1] == corpus and one.mixed_auc is not None
        ]
        correlation = float(np.corrcoef(stats.rankdata(np.array(pairs), axis=0).T)[0, 1])
        rows.append((corpus, f"{correlation:.2f}", str(len(pairs))))
    return format_table(rows, 120)


def tabulate(measured: Results) -> str:
    """Return the table of systems by corpus."""
    systems, corpora = (list(dict.fromkeys(key[i] for key in measured)) for i in (0, 1))
    rows = [("official, %", *corpora, "mean")]
    for system in systems:
        by_corpus = [
            [100 * one.official for key, one in measured.items() if key[:2] == (system, corpus)] for corpus in corpora
        ]
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
    parser.add_argument("--no-sensitivity", dest="sensitivity", action="store_false")
    options, others = parser.parse_known_args()
    changes = dict(word.removeprefix("--config.").split("=", 1) for word in others)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    measured = measure(options.corpora, options.out, seeds, {**SMALL, **changes}, sensitivity=options.sensitivity)
    tables = [tabulate(measured), tabulate_alarms(measured)]
    if options.sensitivity:
        tables.append(tabulate_correlations(measured))
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
