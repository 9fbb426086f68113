"""`asdjax plan`: memory, FLOPs, bytes, roofline and the compiler's estimate, before anybody pays for a training."""

import copy
from typing import Any

from asdjax.config.fields import Config
from asdjax.fleet import fleet_model
from asdjax.perf.planned_step import Cost, as_json, cost_of
from asdjax.perf.targets import Target, parse_target
from asdjax.perf.workload import make_work
from asdjax.runtime import hardware
from asdjax.training.audio_feed import audio_bytes
from asdjax.training.grouping import fleets_per_program


def plan(config: Config, devices: str) -> dict[str, Any]:
    """Everything that the JSON holds, for devices such as `v5e:4x4`.

    Raises InputError where they cannot be planned for here, and where the compiler refuses the step.
    """
    target = parse_target(devices)
    work = make_work(config)
    devices_of_row = len(target.devices) // config.parallel.device_groups
    config = copy.deepcopy(config)
    with hardware.compiling_for(target.platform, target.memory_bytes):
        audio = audio_bytes(work.lengths)
        sizes = [fleets_per_program(config, len(fleets), max(1, devices_of_row), audio) for fleets in work.kinds]
        config.parallel.fleets_per_program = max(sizes)
        cost, precision = cost_of(config, work, target), fleet_model.choose_precision(config)
    in_turn = work.steps_in_turn(sizes, config.parallel.device_groups)
    return {
        "devices": {"name": target.name, "kind": target.kind, "number": len(target.devices), "hosts": target.hosts},
        "fleet": {
            "variants": list(config.variants),
            "width": config.width,
            "precision": precision,
            "batch_size": config.train.batch_size,
            "batch_per_device": config.train.batch_size // devices_of_row,
            "stacked": config.parallel.fleets_per_program,
            "tasks_at_once": config.parallel.device_groups,
        },
        "work": {
            "origin": work.origin,
            "classes": len(work.task.classes),
            "clips": len(work.task.clips),
            "fleets": work.fleets,
            "steps": work.steps,
        },
        "step": as_json(cost),
        "memory": memory_of(cost, target),
        "roofline": roofline_of(cost, target, in_turn),
        "estimate": estimate_of(cost, target, in_turn),
    }


def memory_of(cost: Cost, target: Target) -> dict[str, Any]:
    """Bytes that one device holds, has, and whether that is enough; the last two None where it is not known."""
    needed = cost.arguments_bytes + cost.temporaries_bytes + cost.code_bytes + cost.waiting_bytes
    there = target.memory_bytes
    return {"needed_bytes": needed, "there_bytes": there, "fits": None if there is None else needed <= there}


def roofline_of(cost: Cost, target: Target, steps: int) -> dict[str, Any] | None:
    """Seconds of a step at least, by the roofline (Williams et al. 2009): arithmetic in bfloat16, memory traffic, and
    what devices tell each other, its latency left out, each at its peak and all beside each other. None without a data
    sheet.

    `run_s` is of so many steps in turn, each taken for one of the largest stack that trains all groups.
    """
    sheet = target.sheet
    if sheet is None:
        return None
    seconds = {
        "arithmetic_s": cost.flops / sheet.flops_per_s,
        "memory_s": cost.bytes_accessed / sheet.bytes_per_s,
        "collectives_s": cost.bytes_sent / sheet.interconnect_bytes_per_s,
    }
    step = max(seconds.values())
    return {
        **seconds,
        "step_s": step,
        "collectives_share": seconds["collectives_s"] / step,
        "run_s": step * steps,
    }


def estimate_of(cost: Cost, target: Target, steps: int) -> dict[str, Any] | None:
    """Seconds of a step, and of all, by the compiler's own estimate of operations' cycles, one after another; and bytes
    that move in operations without one, such as transfers that run beside others. None where no operation has one."""
    cycles, bytes_without = cost.estimate
    if not cycles or target.sheet is None or target.sheet.cycles_per_s is None:
        return None
    step = cycles / target.sheet.cycles_per_s
    return {"step_s": step, "bytes_without": bytes_without, "run_s": step * steps}
