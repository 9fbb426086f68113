"""What devices tell each other in a step, read from its compiled program."""

from collections import Counter
from typing import NamedTuple

from asdjax.hlo import Program

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collectives(NamedTuple):
    """How many there are of each kind, and the bytes that a device sends for all of them, at least."""

    numbers: dict[str, int]
    bytes_sent: float


def collectives_of(program: Program, devices: int) -> Collectives:
    """Of a whole program, within its fusions too, each counted once."""
    numbers: Counter[str] = Counter()
    sent = 0.0
    for instruction in program.instructions.values():
        if instruction.kind in _KINDS:
            numbers[instruction.kind] += 1
            sent += _sent(instruction.kind, sum(array.bytes for array in instruction.results), devices)
    return Collectives(dict(numbers), sent)


def _sent(kind: str, result: float, devices: int) -> float:
    """Bytes that a device sends at least, for a result of so many bytes (Thakur et al. 2005, section 4)."""
    others = (devices - 1) / devices
    match kind:
        case "all-reduce":
            return 2 * others * result
        case "reduce-scatter":
            return others * devices * result
        case "collective-permute":
            return result
        case _:
            return others * result
