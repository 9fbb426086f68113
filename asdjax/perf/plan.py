"""`asdjax plan`: memory, FLOPs, bytes, roofline and the compiler's estimate, without running a step."""

import copy
from dataclasses import asdict
from typing import Any

from asdjax.config.fields import Config
from asdjax.fleet import fleet_model
from asdjax.perf.planned_step import StepCost, find_cost
from asdjax.perf.targets import Target, parse_target
from asdjax.perf.workload import Work, make_work
from asdjax.runtime import hardware
from asdjax.training.audio_feed import count_audio_bytes
from asdjax.training.programs import choose_fleets_per_program


def plan(config: Config, devices: str) -> dict[str, Any]:
    """Return the plan as JSON, for devices such as `v5e:4x4`.

    Raises InputError for unknown devices, without their compiler, and if the compiler refuses the step.
    """
    return plan_work(config, parse_target(devices), make_work(config))


def plan_work(config: Config, target: Target, work: Work) -> dict[str, Any]:
    """Return the plan of some work as JSON. Raises InputError as `find_cost`."""
    config = copy.deepcopy(config)
    device_groups = config.parallel.device_groups
    group_devices = len(target.devices) // device_groups
    with hardware.compiling_for(target.platform, target.memory_bytes):
        audio = count_audio_bytes(work.lengths)
        sizes = [choose_fleets_per_program(config, len(fleets), max(1, group_devices), audio) for fleets in work.kinds]
        config.parallel.fleets_per_program = max(sizes)
        cost, precision = find_cost(config, work, target), fleet_model.choose_precision(config)
    steps = work.consecutive_steps(sizes, device_groups)
    return {
        "devices": {"name": target.name, "kind": target.kind, "number": len(target.devices), "hosts": target.hosts},
        "fleet": {
            "variants": list(config.variants),
            "width": config.width,
            "precision": precision,
            "batch_size": config.train.batch_size,
            "batch_per_device": config.train.batch_size // group_devices,
            "fleets_per_program": config.parallel.fleets_per_program,
            "device_groups": device_groups,
        },
        "work": {
            "origin": work.origin,
            "classes": len(work.task.classes),
            "clips": len(work.task.clips),
            "fleets": work.fleets,
            "steps": work.steps,
        },
        "step": asdict(cost),
        "memory": compare_memory(cost, target),
        "roofline": compute_roofline(cost, target, steps),
        "estimate": compute_estimate(cost, target, steps),
    }


def compare_memory(cost: StepCost, target: Target) -> dict[str, Any]:
    """Return the bytes that one device needs and has, and whether they suffice; None where its memory is unknown."""
    needed = cost.arguments_bytes + cost.temporaries_bytes + cost.code_bytes + cost.prefetched_bytes
    available = target.memory_bytes
    fits = None if available is None else needed <= available
    return {"needed_bytes": needed, "available_bytes": available, "fits": fits}


def compute_roofline(cost: StepCost, target: Target, steps: int) -> dict[str, Any] | None:
    """Return the least seconds of a step by the roofline (Williams et al. 2009); None without a data sheet.

    Arithmetic in bfloat16, memory traffic and communication between devices (without latency) run at their peak rates
    and overlap fully. `run_s` is for `steps` consecutive steps of the largest program.
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


def compute_estimate(cost: StepCost, target: Target, steps: int) -> dict[str, Any] | None:
    """Return seconds by the compiler's estimate of each operation, one after another; None without any estimate.

    `bytes_without` are moved by operations without an estimate, such as transfers that overlap others.
    """
    estimate = cost.estimate
    if not estimate.cycles or target.sheet is None or target.sheet.cycles_per_s is None:
        return None
    step = estimate.cycles / target.sheet.cycles_per_s
    return {"step_s": step, "bytes_without": estimate.bytes_without, "run_s": step * steps}
