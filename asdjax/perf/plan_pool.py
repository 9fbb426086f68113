"""Plan for a pool of devices, each of which trains parts of a run: hours, checkpoints, disk, and what limits them."""

import copy
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from asdjax.config.fields import Config
from asdjax.errors import InputError
from asdjax.fleet import fleet_model
from asdjax.perf.plan import plan_work
from asdjax.perf.targets import parse_target, split_pool
from asdjax.perf.workload import make_work
from asdjax.training.grouping import propose_parts

#: Seconds before the first step of a part whose program is in the cache, on an H200 (tests/perf/README.md).
START_S = 25

#: File operations of a save during a phase and at its end (asdjax bench checkpoint, tests/perf/README.md).
SAVE_OPERATIONS, LAST_SAVE_OPERATIONS = 200, 110

#: File system that a pool is assumed to share, an NFS server of middle size: bytes and file operations per second.
STORAGE_BYTES_PER_S, STORAGE_OPERATIONS_PER_S = 1e9, 10_000


@dataclass(frozen=True, kw_only=True)
class Saves:
    """Checkpoints of one fleet: bytes and file operations of all saves, and bytes that are kept."""

    bytes_written: int
    operations: int
    bytes_kept: int


def plan_pool(config: Config, devices: str, fleets: int | None, step_s: float | None) -> dict[str, Any]:
    """Return the plan for one device of a pool as JSON, as `plan`, with the pool's own under "pool".

    `devices` names the pool, such as h200:512 or v5e:16x16. Each device trains one part at a time. All fleets, by
    default the configured ones, are taken to be as large as the largest. `step_s` is the measured time of a program's
    step; the default is the compiler's estimate or else the roofline, a lower bound.

    Raises InputError as `plan`, and if the time of a step is unknown.
    """
    name, number = split_pool(devices)
    target = parse_target(name)
    if step_s is None and target.sheet is None:
        raise InputError(
            f"--step-ms: expected the time of a step, as {target.kind} has no data sheet; measure it by "
            "asdjax bench train"
        )
    config = copy.deepcopy(config)
    config.parallel.device_groups = 1
    work = make_work(config)
    fleets = fleets or work.fleets
    parts = propose_parts(fleets, number)
    runs = math.ceil(fleets / parts)
    found = plan_work(config, target, work._replace(kinds=((work.longest,) * runs,)))
    times = [step_s, *(found[key] and found[key]["step_s"] for key in ("estimate", "roofline"))]
    step_s, source = next((float(time), source) for time, source in zip(times, _SOURCES, strict=True) if time)
    programs = math.ceil(runs / found["fleet"]["fleets_per_program"])
    part_s = START_S + programs * step_s * sum(work.longest)
    saves = count_saves(config, len(work.task.classes), [step_s * steps for steps in work.longest])
    busy = min(number, parts)
    found["pool"] = {
        "devices": number,
        "fleets": fleets,
        "parts": parts,
        "fleets_per_part": runs,
        "step_s": step_s,
        "step_source": source,
        "part_s": part_s,
        "rounds": math.ceil(parts / number),
        "idle_devices": number - busy,
        "bytes_per_s": busy * runs * saves.bytes_written / part_s,
        "operations_per_s": busy * runs * saves.operations / part_s,
        "checkpoint_bytes": fleets * saves.bytes_kept,
        "store_bytes": math.ceil(fleets / len(config.seed)) * 2 * sum(work.lengths),
        "saves": asdict(saves),
        **_find_limit(number, parts, part_s, fleets, saves),
    }
    return found


_SOURCES = ("measured", "the compiler's estimate", "roofline, a lower bound")


def count_saves(config: Config, classes: int, phase_s: Iterable[float]) -> Saves:
    """Return the checkpoints of one fleet whose phases take `phase_s` seconds each.

    A save during a phase has parameters, statistics and velocity, the last one of a phase no velocity. A configured
    `train.checkpoint_every_steps` is not counted.
    """
    model = fleet_model.describe_model(fleet_model.make_spec(config, classes))
    sizes = [sum(4 * math.prod(a.shape) for arrays in part.values() for a in arrays.values()) for part in model]
    last = sum(sizes)
    during = last + sizes[0]
    numbers = [int(seconds / (60 * config.train.checkpoint_every_minutes)) for seconds in phase_s]
    return Saves(
        bytes_written=sum(number * during + last for number in numbers),
        operations=sum(number * SAVE_OPERATIONS + LAST_SAVE_OPERATIONS for number in numbers),
        bytes_kept=sum(min(number, config.train.keep - 1) * during + last for number in numbers),
    )


def _find_limit(number: int, parts: int, part_s: float, fleets: int, saves: Saves) -> dict[str, Any]:
    """Return the hours until all fleets are trained, and what limits them."""
    rounds = math.ceil(parts / number)
    hours = {
        "devices" if rounds > 1 else "length of a part": rounds * part_s / 3600,
        "bytes of checkpoints": fleets * saves.bytes_written / STORAGE_BYTES_PER_S / 3600,
        "file operations": fleets * saves.operations / STORAGE_OPERATIONS_PER_S / 3600,
    }
    limit = max(hours, key=hours.__getitem__)
    return {"hours": hours[limit], "limit": limit, "hours_by_limit": hours}
