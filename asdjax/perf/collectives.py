"""Communication between devices in a step, read from its compiled program."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from asdjax.perf.hlo import Instruction, Program

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collectives(NamedTuple):
    """Collective operations by kind, and the least number of bytes that one device sends for all of them."""

    numbers: dict[str, int]
    bytes_sent: float


def count_collectives(program: Program, step: Iterable[Instruction], devices: int) -> Collectives:
    """Count the collectives of a step's instructions, those inside fusions included."""
    numbers: Counter[str] = Counter()
    sent = 0.0
    for instruction in _with_called(program, step):
        if instruction.kind in _KINDS:
            numbers[instruction.kind] += 1
            sent += _bytes_sent(instruction.kind, sum(array.bytes for array in instruction.results), devices)
    return Collectives(dict(numbers), sent)


def _with_called(program: Program, instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """Yield each instruction, followed by those of the computations that it calls."""
    for instruction in instructions:
        yield instruction
        for called in instruction.called:
            yield from _with_called(program, program.computations[called])


def _bytes_sent(kind: str, result_bytes: float, devices: int) -> float:
    """Return the least number of bytes that a device sends (Thakur et al. 2005, section 4)."""
    others = (devices - 1) / devices
    match kind:
        case "all-reduce":
            return 2 * others * result_bytes
        case "reduce-scatter":
            return others * devices * result_bytes
        case "collective-permute":
            return result_bytes
        case _:
            return others * result_bytes
