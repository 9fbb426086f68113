"""Measure what bounded banks cost, on work directories of real_sound.py: official score and size by pieces kept.

    uv run python tests/perf/bank_size.py DIR [--pieces 25,50,100,200,0]

Each work directory DIR/<corpus>.<seed> is evaluated with config.evaluate.bank_pieces at each number, 0 for all. Printed
by corpus: pieces in the largest bank, `all_mean` and `combined` as means over seeds, and milliseconds that the models'
banks take for a clip of ten seconds.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean
from time import perf_counter

import numpy as np

import asdjax
from asdjax.inference.backends import Neighbours
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.inference.loaded_system import load_evaluated
from asdjax.runtime.text_table import format_table

#: Pieces of a clip of ten seconds, and repetitions of a timing.
_CLIP_PIECES, _TIMES = 9, 50


def time_banks(workdir: Path) -> tuple[int, float]:
    """Return the pieces of the largest bank, and the milliseconds that the banks of its system take for a clip."""
    evaluation = open_evaluation(workdir, "dev")
    machine = next(iter(evaluation.results["clip_seconds"]))
    system = load_evaluated(evaluation, "all_mean", machine)
    detector = system.make_detector(system.places[0][0], system.places[0][1])
    scorers = [member.scorer for part in detector.parts for member in part.members]
    sizes = [len(one.vectors) for scorer in scorers for one in scorer.distances if isinstance(one, Neighbours)]
    queries = np.random.default_rng(0).normal(size=(_CLIP_PIECES, 128)).astype(np.float32)
    taken = []
    for _ in range(_TIMES):
        begin = perf_counter()
        for scorer in scorers:
            scorer(queries)
        taken.append(perf_counter() - begin)
    return max(sizes), 1000 * float(np.median(taken))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pieces", default="25,50,100,200,0")
    options = parser.parse_args()
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for workdir in sorted(path for path in options.folder.iterdir() if (path / "evaluation").is_dir()):
        for pieces in map(int, options.pieces.split(",")):
            results = asdjax.evaluate(workdir, overrides={"evaluate.bank_pieces": pieces})
            scores = [results.systems[name].official or 0.0 for name in ("all_mean", "combined")]
            found.setdefault((workdir.name.rsplit(".", 1)[0], pieces), []).append((*time_banks(workdir), *scores))
    rows = [("corpus", "bank_pieces", "largest bank", "ms a clip", "all_mean", "combined", "seeds")]
    for (corpus, pieces), figures in found.items():
        size, taken, *scores = (mean(column) for column in zip(*figures, strict=True))
        rows.append(
            (corpus, str(pieces), f"{size:.0f}", f"{taken:.2f}", *(f"{100 * x:.1f}" for x in scores), str(len(figures)))
        )
    sys.stdout.write(format_table(rows, 120) + "\n")


if __name__ == "__main__":
    main()
