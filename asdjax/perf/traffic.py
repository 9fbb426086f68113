"""Bytes that a compiled program reads from a device's memory and writes to it.

XLA's own count takes what lies in a TPU's vector memory for traffic too, takes a gather within a fusion for a reading
of the whole array, here of all audio, and leaves out calls to cuDNN and cuBLAS, a GPU's convolutions and matrix
products.
"""

from collections.abc import Iterable, Iterator, Sequence

from asdjax.perf import hlo
from asdjax.perf.hlo import Array, Instruction, Program

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"}
_SLICES = {"slice", "dynamic-slice", "gather"}
_UPDATE = "dynamic-update-slice"


def of_step(program: Program, steps_per_dispatch: int) -> list[Instruction]:
    """What runs for one step: of a dispatch of several the loop over them, without what comes before and after it."""
    loops = [] if steps_per_dispatch == 1 else list(_loops(program, program.entry))
    if not loops:
        return list(hlo.executed(program))
    turns = ([line for called in loop.called for line in hlo.executed(program, called)] for loop in loops)
    return max(turns, key=len)


def _loops(program: Program, computation: str) -> Iterator[Instruction]:
    """Those that are in no other loop."""
    for line in program.computations[computation]:
        if line.kind == "while":
            yield line
        elif line.kind == "call":
            for called in line.called:
                yield from _loops(program, called)


def bytes_moved(program: Program, instructions: Iterable[Instruction]) -> float:
    """By all of them, one after another."""
    return sum(bytes_of(program, instruction) for instruction in instructions)


def bytes_of(program: Program, instruction: Instruction) -> float:
    """Every operand and result of one instruction, once."""
    if instruction.kind in _FREE:
        return 0
    return _read(program, instruction) + _written(program, instruction)


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
    written = {maker.name for maker in _made(program, _root(lines))}
    taken = 0.0
    for line in lines:
        for place in (place for place, operand in enumerate(line.operands) if operand == name):
            if line.kind == "bitcast" and not line.root:
                taken += _taken_within(program, lines, line.name, whole)
            elif line.kind == _UPDATE and line.name not in written:  # computed on, not written in place
                taken += whole
            else:
                taken += _taken(program, line, place, whole)
    return taken


def _written(program: Program, instruction: Instruction) -> float:
    # a call to a library gives its scratch memory out of a fusion too, last, which nothing makes
    made = zip(instruction.results, _made(program, instruction), strict=False)
    return sum(
        _update_bytes(program, maker) if maker.kind == _UPDATE else result.place_bytes
        for result, maker in made
        if result.in_memory
    )


def _made(program: Program, instruction: Instruction) -> list[Instruction]:
    """Of each result the instruction that makes it: in a fusion one of its lines."""
    match instruction.kind:
        case "tuple":
            return [maker for name in instruction.operands for maker in _made(program, program.instructions[name])]
        case "bitcast":
            return _made(program, program.instructions[instruction.operands[0]])
        case "fusion":
            return _made(program, _root(program.computations[instruction.called[0]]))
    return [instruction] * len(instruction.results)


def _root(lines: Sequence[Instruction]) -> Instruction:
    return next(line for line in lines if line.root)


def _update_bytes(program: Program, update: Instruction) -> float:
    return sum(array.place_bytes for array in program.instructions[update.operands[1]].results)


def _bytes(arrays: Sequence[Array]) -> float:
    return sum(array.place_bytes for array in arrays if array.in_memory)
