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
from asdjax.training.programs import propose_parts

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
    default the configured ones, are taken to be as large as the largest. `step_s` is the measured time of one fleet's
    step. By default the program's step takes the compiler's estimate or else the roofline, a lower bound.

    Raises InputError as `plan`, and if the time of a step is unknown.
    """
    name, number = split_pool(devices)
    target = parse_target(name)
    if step_s is None and target.sheet is None:
        raise InputError(
            f"step-ms: expected the time of a step, got none, and {target.kind} has no data sheet; give what "
            "asdjax bench train measures"
        )
    config = copy.deepcopy(config)
    config.parallel.device_groups = 1
    work = make_work(config)
    fleets = fleets or work.fleets
    parts = propose_parts(fleets, number)
    runs = math.ceil(fleets / parts)
    found = plan_work(config, target, work._replace(kinds=((work.longest,) * runs,)))
    step_s, source = _choose_step_time(found, step_s)
    programs = math.ceil(runs / found["fleet"]["fleets_per_program"])
    part_s = START_S + programs * step_s * sum(work.longest)
    saves = count_saves(config, len(work.task.classes), [step_s * steps for steps in work.longest])
    found["pool"] = {
        "devices": number,
        "fleets": fleets,
        "parts": parts,
        "fleets_per_part": runs,
        "step_s": step_s,
        "step_source": source,
        "part_s": part_s,
        "store_bytes": math.ceil(fleets / len(config.seed)) * 2 * sum(work.lengths),
        **_describe_traffic(fleets, min(number, parts) * runs / part_s, saves),
        **_find_limit(number, parts, part_s, fleets, saves),
    }
    return found


def _describe_traffic(fleets: int, fleets_per_s: float, saves: Saves) -> dict[str, Any]:
    """Return what checkpoints write and keep, and what the shared disk is assumed to manage."""
    return {
        "saves": asdict(saves),
        "bytes_per_s": fleets_per_s * saves.bytes_written,
        "operations_per_s": fleets_per_s * saves.operations,
        "checkpoint_bytes": fleets * saves.bytes_kept,
        "storage": {"bytes_per_s": STORAGE_BYTES_PER_S, "operations_per_s": STORAGE_OPERATIONS_PER_S},
    }


def _choose_step_time(found: dict[str, Any], fleet_step_s: float | None) -> tuple[float, str]:
    """Return the seconds of a program's step, and their source."""
    if fleet_step_s is not None:
        return fleet_step_s * found["fleet"]["fleets_per_program"], "measured"
    if found["estimate"]:
        return found["estimate"]["step_s"], "the compiler's estimate"
    return found["roofline"]["step_s"], "roofline, a lower bound"


def count_saves(config: Config, classes: int, phase_s: Iterable[float]) -> Saves:
    """Return the checkpoints of one fleet whose phases take `phase_s` seconds each.

    A save during a phase has parameters, statistics and velocity, and with `optimizer.average_decay` the average of the
    first two; the last save of a phase has one model. A strategy that freezes parameters has less velocity, and
    `train.checkpoint_every_steps` more saves; neither is counted. The number of file operations is that without an
    average.
    """
    model = fleet_model.describe_model(fleet_model.make_spec(config, classes))
    sizes = [sum(4 * math.prod(a.shape) for arrays in part.values() for a in arrays.values()) for part in model]
    last = sum(sizes)
    during = last + sizes[0] + (last if config.optimizer.average_decay else 0)
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
    idle = max(0, number - parts)
    return {"hours": hours[limit], "limit": limit, "hours_by_limit": hours, "rounds": rounds, "idle_devices": idle}
