"""Measure what the acceptance of normal clips of a drifted domain changes, on work directories of real_sound.py.

    uv run python tests/perf/accepted_clips.py DIR [--accepted 10]

In each work directory DIR/<corpus>.<seed>, ten normal test clips of each section's target domain are accepted as clips
of that domain. They are left out of the figures. Printed by corpus, as means over sections and seeds: AUC, share of
false alarms and share of faults found among the other test clips of the target domain, and of all of the source domain,
before and after. The acceptances are undone in the end, and every score and threshold is compared with those of before.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

import asdjax
from asdjax.data.clips import Clip, Domain
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.runtime.text_table import format_table


class Figures(NamedTuple):
    """AUC, share of false alarms, share of faults found."""

    auc: float
    false_alarms: float
    found: float


def measure(workdir: Path, machine: str, section: str, number: int) -> dict[tuple[Domain, str], Figures]:
    """Return the figures of a section by domain, before and after `number` clips are accepted."""
    stored = open_evaluation(workdir, "dev").load_statistics(machine).test.clips
    clips = [clip for clip in stored if clip.section == section]
    accepted = [clip for clip in clips if clip.domain == "target" and clip.label == "normal"][:number]
    others = [clip for clip in clips if clip not in accepted]
    before = {domain: _score(workdir, domain, others) for domain in ("source", "target")}
    _load(workdir, "target", accepted[0]).accept([clip.path for clip in accepted])
    after = {domain: _score(workdir, domain, others) for domain in ("source", "target")}
    asdjax.undo_accept(workdir)
    again = {domain: _score(workdir, domain, others) for domain in ("source", "target")}
    if again != before:
        raise SystemExit(f"{workdir} {section}: the undone acceptance has left a trace")
    return {
        (domain, when): _summarise(*scored[domain], [clip for clip in others if clip.domain == domain])
        for when, scored in (("before", before), ("after", after))
        for domain in scored
    }


def _load(workdir: Path, domain: Domain, clip: Clip) -> asdjax.Detector:
    return asdjax.load(workdir, machine=clip.machine, section=clip.section, domain=domain)


def _score(workdir: Path, domain: Domain, clips: Sequence[Clip]) -> tuple[list[float], float]:
    of_domain = [clip for clip in clips if clip.domain == domain]
    detector = _load(workdir, domain, of_domain[0])
    return [detector.score(clip.path).score for clip in of_domain], detector.threshold


def _summarise(scores: Sequence[float], threshold: float, clips: Sequence[Clip]) -> Figures:
    faulty = np.array([clip.label == "anomaly" for clip in clips])
    alarms = np.array(scores) > threshold
    return Figures(float(roc_auc_score(faulty, scores)), alarms[~faulty].mean(), alarms[faulty].mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accepted", type=int, default=10)
    options = parser.parse_args()
    found: dict[tuple[str, Domain, str], list[Figures]] = {}
    for workdir in sorted(path for path in options.folder.iterdir() if (path / "evaluation").is_dir()):
        results = open_evaluation(workdir, "dev").results
        for machine in results["clip_seconds"]:
            stored = open_evaluation(workdir, "dev").load_statistics(machine)
            for section in sorted({clip.section for clip in stored.test.clips}):
                for (domain, when), figures in measure(workdir, machine, section, options.accepted).items():
                    found.setdefault((workdir.name.rsplit(".", 1)[0], domain, when), []).append(figures)
    rows = [("corpus", "domain", "", "AUC", "false alarms", "found", "sections and seeds")]
    for (corpus, domain, when), figures in sorted(
        found.items(), key=lambda pair: (*pair[0][:2], pair[0][2] == "after")
    ):
        shares = [f"{100 * mean(column):.1f}" for column in zip(*figures, strict=True)]
        rows.append((corpus, domain, when, *shares, str(len(figures))))
    sys.stdout.write(format_table(rows, 120) + "\n")


if __name__ == "__main__":
    main()
