"""Bytes that a compiled program reads from a device's memory and writes to it.

XLA's own count is not used, for three reasons. It counts a TPU's vector memory as memory. It counts a gather inside a
fusion as a reading of the whole array, here all audio. It leaves out calls to cuDNN and cuBLAS.
"""

from collections.abc import Iterable, Iterator, Sequence

from asdjax.perf import hlo
from asdjax.perf.hlo import Array, Instruction, Program

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id"}
_SLICES = {"slice", "dynamic-slice", "gather"}
_UPDATE = "dynamic-update-slice"


def select_step(program: Program, steps_per_dispatch: int) -> list[Instruction]:
    """Return the instructions that run for one step.

    With several steps per dispatch these are the loop over steps, without the code before and after it.
    """
    loops = [] if steps_per_dispatch == 1 else list(_outer_loops(program, program.entry))
    if not loops:
        return list(hlo.iterate_executed(program))
    bodies = ([line for called in loop.called for line in hlo.iterate_executed(program, called)] for loop in loops)
    return max(bodies, key=len)


def _outer_loops(program: Program, computation: str) -> Iterator[Instruction]:
    for line in program.computations[computation]:
        if line.kind == "while":
            yield line
        elif line.kind == "call":
            for called in line.called:
                yield from _outer_loops(program, called)


def sum_bytes(program: Program, instructions: Iterable[Instruction]) -> float:
    """Return the bytes that all instructions together read and write."""
    return sum(count_bytes(program, instruction) for instruction in instructions)


def count_bytes(program: Program, instruction: Instruction) -> float:
    """Return the bytes that one instruction reads and writes, every operand and result once."""
    if instruction.kind in _FREE:
        return 0
    return _bytes_read(program, instruction) + _bytes_written(program, instruction)


def _bytes_read(program: Program, instruction: Instruction) -> float:
    read = 0.0
    for place, name in enumerate(instruction.operands):
        whole = _bytes_in_memory(program.instructions[name].results)
        read += min(whole, _bytes_of_operand(program, instruction, place, whole))
    return read


def _bytes_of_operand(program: Program, instruction: Instruction, place: int, whole: float) -> float:
    """Return the bytes read of an operand of `whole` bytes: a slice reads its result, an update nothing."""
    if place == 0 and instruction.kind in _SLICES:
        return sum(array.padded_bytes for array in instruction.results)
    if place == 0 and instruction.kind == _UPDATE:
        return 0
    if instruction.kind != "fusion":
        return whole
    lines = program.computations[instruction.called[0]]
    (inside,) = (line.name for line in lines if line.kind == "parameter" and line.operands == (str(place),))
    return _bytes_within_fusion(program, lines, inside, whole)


def _bytes_within_fusion(program: Program, lines: Sequence[Instruction], name: str, whole: float) -> float:
    """Return the bytes that a fusion's lines read of one of its values."""
    written = {maker.name for maker in _find_makers(program, _root(lines))}
    read = 0.0
    for line in lines:
        for place in (place for place, operand in enumerate(line.operands) if operand == name):
            if line.kind == "bitcast" and not line.root:
                read += _bytes_within_fusion(program, lines, line.name, whole)
            elif line.kind == _UPDATE and line.name not in written:  # computed on, not written in place
                read += whole
            else:
                read += _bytes_of_operand(program, line, place, whole)
    return read


def _bytes_written(program: Program, instruction: Instruction) -> float:
    # a fusion's results may end with a library's scratch memory, which no instruction makes
    results = zip(instruction.results, _find_makers(program, instruction), strict=False)
    return sum(
        _bytes_of_update(program, maker) if maker.kind == _UPDATE else result.padded_bytes
        for result, maker in results
        if result.in_memory
    )


def _find_makers(program: Program, instruction: Instruction) -> list[Instruction]:
    """Return for each result the instruction that computes it: for a fusion one of its lines."""
    match instruction.kind:
        case "tuple":
            operands = (program.instructions[name] for name in instruction.operands)
            return [maker for operand in operands for maker in _find_makers(program, operand)]
        case "bitcast":
            return _find_makers(program, program.instructions[instruction.operands[0]])
        case "fusion":
            return _find_makers(program, _root(program.computations[instruction.called[0]]))
    return [instruction] * len(instruction.results)


def _root(lines: Sequence[Instruction]) -> Instruction:
    return next(line for line in lines if line.root)


def _bytes_of_update(program: Program, update: Instruction) -> float:
    return sum(array.padded_bytes for array in program.instructions[update.operands[1]].results)


def _bytes_in_memory(arrays: Sequence[Array]) -> float:
    return sum(array.padded_bytes for array in arrays if array.in_memory)
