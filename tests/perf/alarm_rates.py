"""Count the false alarms of thresholds for a wanted number a day, on normal test clips of evaluated work directories.

    uv run python tests/perf/alarm_rates.py WORKDIR [WORKDIR ...]

The table has by corpus (a work directory's name up to its last dot) and domain, over its work directories and sections,
for 5, 10 and 20 % of the clips, as alarms a day: the share of normal test clips above the threshold, with Wilson's
95 % interval over clips and the number of clips. Work directories with other seeds have the same clips.
"""

import argparse
import contextlib
import csv
import sys
from collections import defaultdict
from pathlib import Path

from scipy import stats

import asdjax
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.runtime.text_table import format_table

SHARES = (0.05, 0.1, 0.2)
CLIPS_A_DAY = 8640  # of 10 s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=Path)
    counted: dict[tuple[str, str, float], list[bool]] = defaultdict(list)
    for workdir in parser.parse_args().workdirs:
        evaluation = open_evaluation(workdir, None)
        places: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        with (evaluation.folder / "clips" / f"{evaluation.results['default_system']}.csv").open() as file:
            for row in csv.DictReader(file):
                if (row["split"], row["label"]) == ("test", "normal"):
                    places[row["machine"], row["section"], row["domain"]].append(float(row["score"]))
        for (machine, section, domain), scores in places.items():
            for share in SHARES:
                alarms = counted[workdir.stem, domain, share]
                with contextlib.suppress(asdjax.InputError):  # too few training clips for this rate
                    detector = asdjax.load(
                        workdir,
                        machine=machine,
                        section=section,
                        domain=domain or None,  # pyright: ignore[reportArgumentType]
                        false_alarms_per_day=share * CLIPS_A_DAY,
                        clips_per_day=CLIPS_A_DAY,
                    )
                    alarms += [score > detector.threshold for score in scores]
    rows = [("corpus", "domain", *(f"{share * CLIPS_A_DAY:.0f} a day ({share:.0%})" for share in SHARES), "clips")]
    for corpus, domain in dict.fromkeys(key[:2] for key in counted):
        cells = [counted[corpus, domain, share] for share in SHARES]
        rows.append((corpus, domain, *map(format_share, cells), str(max(map(len, cells)))))
    sys.stdout.write(format_table(rows, 120, left=2) + "\n")


def format_share(alarms: list[bool]) -> str:
    """Return the share of alarms and its interval in %."""
    if not alarms:
        return "refused"
    low, high = stats.binomtest(sum(alarms), len(alarms)).proportion_ci(method="wilson")
    return f"{100 * sum(alarms) / len(alarms):.1f} ({100 * low:.1f}-{100 * high:.1f})"


if __name__ == "__main__":
    main()
