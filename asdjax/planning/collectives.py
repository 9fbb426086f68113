"""What devices tell each other in a step, read from its compiled program."""

import math
import re
from collections import Counter
from typing import NamedTuple

_BITS = re.compile(r"[a-z]+(\d+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
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
    """Of a result; what starts a gathering or a permutation gives its operand back too, before the result."""
    arrays = [_array_bytes(kind_of_value, size) for kind_of_value, size in _ARRAY.findall(shape)]
    if started and kind in ("all-gather", "collective-permute") and len(arrays) > 1:
        return arrays[1]
    return sum(arrays)


def _array_bytes(kind_of_value: str, size: str) -> float:
    bits = _BITS.match(kind_of_value)
    return math.prod(int(n) for n in size.split(",") if n) * (int(bits[1]) / 8 if bits else 1)
