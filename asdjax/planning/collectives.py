"""What devices tell each other in a step, read from its compiled program."""

import re
from collections import Counter
from typing import NamedTuple

from asdjax.training.counts import array_bytes

_OPERATION = re.compile(
    r"= (?P<shape>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)


class Collectives(NamedTuple):
    """How many there are of each kind, and the bytes that a device sends for all of them, at least."""

    numbers: dict[str, int]
    bytes_sent: float


def collectives_of(program: str, devices: int) -> Collectives:
    """Of a program's optimised HLO text, each counted once."""
    numbers: Counter[str] = Counter()
    sent = 0.0
    for line in program.splitlines():
        operation = _OPERATION.search(line)
        if operation is None:
            continue
        kind = operation["kind"]
        numbers[kind] += 1
        sent += _sent(kind, _bytes_of(operation["shape"], kind, started="-start(" in line), devices)
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


def _bytes_of(shape: str, kind: str, *, started: bool) -> float:
    """Of the results; what starts a gathering or a permutation gives its operands back before them, and a permutation
    its contexts, `u32[]`, after them."""
    arrays = array_bytes(shape.replace("u32[]", ""))
    if started and kind in ("all-gather", "collective-permute"):
        arrays = arrays[len(arrays) // 2 :]
    return sum(arrays)
