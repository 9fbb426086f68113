"""What devices tell each other in a step, read from its compiled program."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from asdjax.perf.hlo import Instruction, Program

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collectives(NamedTuple):
    """How many there are of each kind, and the bytes that a device sends for all of them, at least."""

    numbers: dict[str, int]
    bytes_sent: float


def collectives_of(program: Program, step: Iterable[Instruction], devices: int) -> Collectives:
    """Of what runs for a step, within its fusions too."""
    numbers: Counter[str] = Counter()
    sent = 0.0
    for instruction in _with_called(program, step):
        if instruction.kind in _KINDS:
            numbers[instruction.kind] += 1
            sent += _sent(instruction.kind, sum(array.bytes for array in instruction.results), devices)
    return Collectives(dict(numbers), sent)


def _with_called(program: Program, instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """Each, and after it what is in the computations that it calls."""
    for instruction in instructions:
        yield instruction
        for called in instruction.called:
            yield from _with_called(program, program.computations[called])


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
