"""A plan as text of at most 80 columns."""

from typing import Any

from asdjax.runtime.text_table import format_fields


def format_plan(plan: dict[str, Any]) -> str:
    """Format a plan, a paragraph per subject."""
    lines = [
        ("devices", _devices(plan)),
        ("fleets", _fleets(plan)),
        ("memory", _memory(plan)),
        ("step", _step(plan)),
        ("roofline", _roofline(plan)),
        *([("estimate", _estimate(plan["estimate"]))] if plan["estimate"] else []),
        *(_pool(plan["pool"]) if "pool" in plan else []),
    ]
    return format_fields(lines)


def _devices(plan: dict[str, Any]) -> str:
    devices, fleet = plan["devices"], plan["fleet"]
    hosts = devices["hosts"]
    warning = f"; they are in {hosts} hosts, but asdjax train uses one host" if hosts > 1 else ""
    groups = f", in {fleet['device_groups']} groups" if fleet["device_groups"] > 1 else ""
    return (
        f"{devices['number']} x {devices['kind']} ({devices['name']}){groups}; batch of {fleet['batch_size']} pieces "
        f"for {_variants(fleet['variants'])}, {fleet['batch_per_device']} on each device; {fleet['precision']}{warning}"
    )


def _variants(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {len(names)} variants"


def _fleets(plan: dict[str, Any]) -> str:
    work, runs = plan["work"], plan["fleet"]["fleets_per_program"]
    where = "in the largest part" if "pool" in plan else "in all"
    return (
        f"{work['fleets']} {where}, {runs} per program; {work['steps']:,} steps in all; the largest fleet has "
        f"{work['clips']:,} clips in {work['classes']} classes ({work['origin']})"
    )


def _memory(plan: dict[str, Any]) -> str:
    step, memory = plan["step"], plan["memory"]
    needed = (
        f"{_gib(memory['needed_bytes'])} GiB needed on each device: {_gib(step['arguments_bytes'])} audio, parameters "
        f"and velocity, {_gib(step['temporaries_bytes'])} temporaries, {_gib(step['code_bytes'])} code, "
        f"{_gib(step['prefetched_bytes'])} prefetched crops"
    )
    if memory["fits"] is None:
        return f"{needed}; the device's memory is unknown"
    fits = "fits" if memory["fits"] else "DOES NOT FIT"
    return f"{needed}; {_gib(memory['available_bytes'])} GiB available to JAX: {fits}"


def _step(plan: dict[str, Any]) -> str:
    step = plan["step"]
    kinds = ", ".join(f"{number} {kind}" for kind, number in step["collectives"].items())
    between = f"; between devices {kinds}, {_bytes(step['bytes_sent'])} sent by each" if kinds else ""
    return (
        f"{_flops(step['flops'])} and {_bytes(step['bytes_accessed'])} of memory traffic in "
        f"{step['operations']:,} operations on each device{between}; compiled in {step['compile_s']:.0f} s"
    )


def _roofline(plan: dict[str, Any]) -> str:
    roofline = plan["roofline"]
    if roofline is None:
        return "unknown without a data sheet of the device; asdjax bench train measures the time of a step"
    return (
        f"at least {_ms(roofline['step_s'])} a step: the longest of {_ms(roofline['arithmetic_s'])} arithmetic, "
        f"{_ms(roofline['memory_s'])} memory and {_ms(roofline['collectives_s'])} between devices "
        f"({100 * roofline['collectives_share']:.1f} % of the step); at least {_hours(roofline)} for all steps"
    )


def _estimate(estimate: dict[str, float]) -> str:
    return (
        f"{_ms(estimate['step_s'])} a step by the compiler, {_hours(estimate)} for all steps; operations "
        f"that move {_bytes(estimate['bytes_without'])} have no estimate and are left out"
    )


def _pool(pool: dict[str, Any]) -> list[tuple[str, str]]:
    saves, storage, idle = pool["saves"], pool["storage"], pool["idle_devices"]
    rounds = f"{pool['rounds']} rounds" if pool["rounds"] > 1 else f"one round, {idle:,} idle"
    alone = ", ".join(f"{what} {hours:.3g} h" for what, hours in pool["hours_by_limit"].items())
    step = f"{_ms(pool['step_s'])} a step ({pool['step_source']})"
    disk = f"{_bytes(storage['bytes_per_s'])}/s and {storage['operations_per_s']:,} file operations/s"
    return [
        (
            "pool",
            f"{pool['devices']:,} devices, a part each; {pool['fleets']:,} fleets in {pool['parts']:,} parts, at most "
            f"{pool['fleets_per_part']} in each; {pool['part_s'] / 3600:.3g} h a part, {rounds}",
        ),
        (
            "hours",
            f"{pool['hours']:.3g} h, limited by {pool['limit']}; by each limit alone {alone}; with {step}, "
            f"and a shared disk with {disk}",
        ),
        (
            "saves",
            f"{_bytes(saves['bytes_written'])} and {saves['operations']:,} file operations a fleet; all devices "
            f"{_bytes(pool['bytes_per_s'])}/s and {pool['operations_per_s']:,.0f} operations/s in the mean",
        ),
        (
            "disk",
            f"{_bytes(pool['checkpoint_bytes'])} checkpoints, {_bytes(pool['store_bytes'])} decoded training clips",
        ),
    ]


def _flops(number: float) -> str:
    return f"{number / 1e12:.4g} TFLOP" if number >= 1e12 else f"{number / 1e9:.4g} GFLOP"


def _bytes(number: float) -> str:
    if number >= 1e12:
        return f"{number / 1e12:.4g} TB"
    return f"{number / 1e9:.4g} GB" if number >= 1e9 else f"{number / 1e6:.4g} MB"


def _hours(times: dict[str, float]) -> str:
    return f"{times['run_s'] / 3600:.3g} h"


def _gib(number: float) -> str:
    return f"{number / 2**30:.2f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
