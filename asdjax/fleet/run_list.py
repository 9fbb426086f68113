"""RunList: the runs of a configuration by name, and the runs that one process takes of them.

Several processes train the runs of one work directory, each a part. All of them derive the same names, so that they
need not talk to each other. The first one looks at the whole corpus and writes what it found to W/runs.json. The others
look at the recordings of their own machine types only. A process that trains all runs always looks at the whole corpus.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config.fields import Config
from asdjax.data.access import scan_corpus
from asdjax.data.clip_lists import MANIFEST
from asdjax.data.layouts import Scan, find_name_errors
from asdjax.data.tasks import TOGETHER, choose_classes
from asdjax.errors import InputError
from asdjax.fleet.runs import add_seed
from asdjax.runtime.files import add_checksum, replace_text, verify_checksum

FILE = "runs.json"


class RunList(NamedTuple):
    """Machine types with training clips, sorted, the layout of their folders, and their classes (never "auto").

    `source` is what the list was made from, as `_describe_source` returned it before it was made.
    """

    layout: str
    classes: str
    machines: tuple[str, ...]
    source: Any

    def name_runs(self, seeds: Sequence[int]) -> dict[str, tuple[str, ...]]:
        """Return the machine types of each run by its name, sorted by name."""
        tasks = {machine: (machine,) for machine in self.machines}
        if self.classes != "section":
            tasks = {TOGETHER: self.machines}
        named = {add_seed(task, seed, seeds): machines for task, machines in tasks.items() for seed in seeds}
        return dict(sorted(named.items()))


class RunChoice(NamedTuple):
    """The runs that a process takes: part i of n, or those of some names; all by default."""

    part: tuple[int, int] = (0, 1)
    only: tuple[str, ...] = ()

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the chosen ones of all runs' names, which are sorted: run j belongs to part j mod n.

        Raises InputError for a name that is none of them, and for an impossible part.
        """
        first, step = self.part
        if not 0 <= first < step:
            raise InputError(f"part: expected i of n with i from 0 to n - 1, got {first} of {step}; correct it")
        for name in self.only:
            if name not in names:
                near = difflib.get_close_matches(name, names, 3, 0.5) or names[:5]
                raise InputError(f"only {name}: expected names of runs such as {', '.join(near)}; correct it")
        return [name for name in names[first::step] if not self.only or name in self.only]


def make_choice(part: tuple[int, int], only: str | Sequence[str]) -> RunChoice:
    """Return the choice of a part and of runs by name; a single name may be a str."""
    return RunChoice(part, (only,) if isinstance(only, str) else tuple(only))


EVERY_RUN = RunChoice()


def find_runs(config: Config, workdir: Path | None) -> tuple[RunList, Scan | None]:
    """Return the runs of a configuration, from W/runs.json if the times of the data folders are those stored there.

    Otherwise, or without a work directory, the whole corpus is scanned, and the scan returned too. Raises InputError as
    `scan_corpus`.
    """
    source = _describe_source(config)
    stored = read(workdir) if workdir else None
    if stored and stored.source == source:
        return stored, None
    found = scan_corpus(config)
    training = [clip for clip in found.clips if clip.split == "train"]
    machines = sorted({clip.machine for clip in training} | set(find_name_errors(found)))
    if not machines:
        raise InputError("config.data.root: expected training clips, got none; check that it has a `train` folder")
    classes = choose_classes(training) if config.data.classes == "auto" else config.data.classes
    return RunList(found.layout, classes, tuple(machines), source), found


def save(workdir: Path, listed: RunList) -> None:
    """Write W/runs.json, if it is not there with this content."""
    if read(workdir) != listed:
        replace_text(workdir / FILE, json.dumps(add_checksum(listed._asdict()), indent=1) + "\n")


def read(workdir: Path) -> RunList | None:
    """Return the list in W/runs.json; None if there is none, or it is damaged or of an earlier version of asdjax."""
    try:
        content = verify_checksum((workdir / FILE).read_text())
        return RunList(content["layout"], content["classes"], tuple(content["machines"]), content["source"])
    except (OSError, ValueError, KeyError):
        return None


def _describe_source(config: Config) -> Any:
    """Return what a list depends on: fields, and the times of data.exclude and of each data folder or its manifest.

    A change within the folder of a machine type does not change the time of the data folder.
    """
    data = config.data
    times = []
    tables = [root / MANIFEST for root in map(Path, data.root)]
    places = [table if table.is_file() else table.parent for table in tables]
    for place in [*places, *([Path(data.exclude)] if data.exclude else [])]:
        times.append([str(place), place.stat().st_mtime_ns if place.exists() else None])
    return [times, data.layout, list(data.machines), data.classes]
