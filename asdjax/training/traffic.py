"""Bytes that a compiled program reads from a device's memory and writes to it.

XLA's own count takes what lies in a TPU's vector memory for traffic too, takes a gather within a fusion for a reading
of the whole array, here of all audio, and leaves out calls to cuDNN and cuBLAS, a GPU's convolutions and matrix
products.
"""

from collections.abc import Sequence

from asdjax import hlo
from asdjax.hlo import Array, Instruction, Program

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"}
_SLICES = {"slice", "dynamic-slice", "gather", "slice-start"}
_UPDATE = "dynamic-update-slice"


def bytes_moved(program: Program) -> float:
    """Every operand and result of what runs, once; a loop has one turn."""
    return sum(
        _read(program, instruction) + _written(program, instruction)
        for instruction in hlo.executed(program)
        if instruction.kind not in _FREE and not instruction.kind.endswith("-done")
    )


def _read(program: Program, instruction: Instruction) -> float:
    read = 0.0
    for place, name in enumerate(instruction.operands):
        whole = _bytes(program.instructions[name].results)
        read += min(whole, _taken(program, instruction, place, whole))
    return read


def _taken(program: Program, instruction: Instruction, place: int, whole: float) -> float:
    """Of an operand of so many bytes: of a slice its result, nothing of what is updated, else the whole."""
    if place == 0 and instruction.kind in _SLICES:
        return sum(array.place_bytes for array in instruction.results)
    if place == 0 and instruction.kind == _UPDATE:
        return 0
    if instruction.kind != "fusion":
        return whole
    lines = program.computations[instruction.called[0]]
    (inside,) = (line.name for line in lines if line.kind == "parameter" and line.operands == (str(place),))
    return _taken_within(program, lines, inside, whole)


def _taken_within(program: Program, lines: Sequence[Instruction], name: str, whole: float) -> float:
    """What a fusion's lines take of a value in it, together."""
    taken = 0.0
    for line in lines:
        for place in (place for place, operand in enumerate(line.operands) if operand == name):
            if line.kind == "bitcast" and not line.root:
                taken += _taken_within(program, lines, line.name, whole)
            else:
                taken += _taken(program, line, place, whole)
    return taken


def _written(program: Program, instruction: Instruction) -> float:
    makers = _makers(program, instruction)
    return sum(
        _update_bytes(program, maker) if maker.kind == _UPDATE else result.place_bytes
        for result, maker in zip(instruction.results, makers, strict=True)
        if result.in_memory
    )


def _makers(program: Program, instruction: Instruction) -> list[Instruction]:
    """Of each result the instruction that makes it: in a fusion one of its lines."""
    results = len(instruction.results)
    if instruction.kind != "fusion":
        return [instruction] * results
    (root,) = (line for line in program.computations[instruction.called[0]] if line.root)
    made = [program.instructions[name] for name in root.operands] if root.kind == "tuple" else [root] * results
    return [_behind_bitcasts(program, line) for line in made]


def _behind_bitcasts(program: Program, line: Instruction) -> Instruction:
    while line.kind == "bitcast":
        line = program.instructions[line.operands[0]]
    return line


def _update_bytes(program: Program, update: Instruction) -> float:
    return sum(array.place_bytes for array in program.instructions[update.operands[1]].results)


def _bytes(arrays: Sequence[Array]) -> float:
    return sum(array.place_bytes for array in arrays if array.in_memory)
