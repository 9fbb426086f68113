"""A plan, as text for people: at most 80 columns."""

from typing import Any

from asdjax.runtime.text_table import format_fields


def of_plan(plan: dict[str, Any]) -> str:
    """A line a subject."""
    lines = [
        ("devices", _devices(plan)),
        ("fleets", _fleets(plan)),
        ("memory", _memory(plan)),
        ("a step", _step(plan)),
        ("roofline", _roofline(plan)),
        *([("estimate", _estimate(plan["estimate"]))] if plan["estimate"] else []),
    ]
    return format_fields(lines)


def _devices(plan: dict[str, Any]) -> str:
    devices, fleet = plan["devices"], plan["fleet"]
    hosts = devices["hosts"]
    beyond = f"; in {hosts} hosts, while asdjax train runs in one" if hosts > 1 else ""
    return (
        f"{devices['number']} {devices['kind']} ({devices['name']}); batch {fleet['batch_size']} of "
        f"{_variants(fleet['variants'])}, {fleet['batch_per_device']} on a device, in {fleet['precision']}{beyond}"
    )


def _variants(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {len(names)} variants"


def _fleets(plan: dict[str, Any]) -> str:
    work, stacked = plan["work"], plan["fleet"]["stacked"]
    together = f", {stacked} in one program" if stacked > 1 else ""
    return (
        f"{work['fleets']}{together}, the largest of {work['clips']:,} clips in {work['classes']} classes; "
        f"{work['steps']:,} steps in all ({work['origin']})"
    )


def _memory(plan: dict[str, Any]) -> str:
    step, memory = plan["step"], plan["memory"]
    needed = (
        f"{_gib(memory['needed_bytes'])} GiB on each device: audio, parameters and velocity "
        f"{_gib(step['arguments_bytes'])}, temporaries {_gib(step['temporaries_bytes'])}, code "
        f"{_gib(step['code_bytes'])}, crops that wait {_gib(step['waiting_bytes'])}"
    )
    if memory["fits"] is None:
        return f"{needed}; how much it has is not known"
    return f"{needed}; JAX can have {_gib(memory['there_bytes'])}: {'fits' if memory['fits'] else 'DOES NOT FIT'}"


def _step(plan: dict[str, Any]) -> str:
    step = plan["step"]
    told = ", ".join(f"{number} {kind}" for kind, number in step["collectives"].items())
    between = f", {told}: {step['bytes_sent'] / 1e9:.3g} GB sent" if told else ""
    return (
        f"{step['flops'] / 1e12:.4g} TFLOP and {step['bytes_accessed'] / 1e9:.4g} GB to and from memory in "
        f"{step['operations']:,} operations on each device{between}; compiled in {step['compile_s']:.0f} s"
    )


def _roofline(plan: dict[str, Any]) -> str:
    roofline = plan["roofline"]
    if roofline is None:
        return "not known, without a data sheet of the device; asdjax bench train measures it"
    return (
        f"{_ms(roofline['step_s'])} a step: arithmetic {_ms(roofline['arithmetic_s'])} beside memory "
        f"{_ms(roofline['memory_s'])} and {_ms(roofline['collectives_s'])} between devices "
        f"({100 * roofline['collectives_share']:.1f} %); {roofline['run_s'] / 3600:.3g} h for all steps"
    )


def _estimate(estimate: dict[str, float]) -> str:
    moved = f"{estimate['bytes_without'] / 1e9:.3g} GB"
    return (
        f"{_ms(estimate['step_s'])} a step by the compiler, {estimate['run_s'] / 3600:.3g} h for all steps, without "
        f"what it estimates no time for, which moves {moved}"
    )


def _gib(number: float) -> str:
    return f"{number / 2**30:.2f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
