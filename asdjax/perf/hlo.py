"""A reader of the text (HLO) that XLA writes of a compiled program: its instructions and their arrays."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from jax.stages import Compiled

from asdjax.errors import InputError

_BITS = re.compile(r"[a-z]+(\d+)")
_ARRAY = re.compile(r"\b(?P<kind>pred|[a-z]+\d+\w*)\[(?P<size>[\d,]*)\](\{(?P<layout>[^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\(\d+\)")
_MODULE = re.compile(r"^HloModule ([\w.-]+)", re.MULTILINE)
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?(?P<name>%[\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?P<root>ROOT )?(?P<name>%[\w.-]+) = (?P<shape>.*?) (?P<kind>[a-z][\w-]*)\((?P<rest>.*)$"
)
_NAME = re.compile(r"%[\w.-]+")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|\w+_computations?)=(\{[^}]*\}|%[\w.-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_NO_ESTIMATE = 2**63 - 1
_LIBRARY = 'custom_call_target="__cu'
_SCRATCH = re.compile(r"[su]8\[\d+\](\{[^}]*\})?")
_RUNS_OTHERS = ("while", "call", "conditional", "async")


class Array(NamedTuple):
    """Size of an array: bytes of its values, and bytes with padding to whole tiles.

    in_memory: False for arrays in a processor's own memory, such as a TPU's vector memory.
    """

    bytes: float
    padded_bytes: float
    in_memory: bool


class Instruction(NamedTuple):
    """One line of a computation.

    kind: without `-start`, so `copy-start` is a `copy`. operands: names of instructions; for a parameter its number.
    called: names of computations. settings: the rest of the line.
    """

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    settings: str
    root: bool


class Program(NamedTuple):
    """A compiled module: its name, computations by name, the entry's name, and all instructions by name."""

    name: str
    computations: dict[str, list[Instruction]]
    entry: str
    instructions: dict[str, Instruction]


def read_program(compiled: Compiled) -> Program:
    """Read the program that XLA compiled.

    Raises InputError if the backend does not give it as text.
    """
    text = compiled.as_text()
    if not text:
        raise InputError(
            "compiled program: expected its text (HLO) from this JAX backend, got none; choose another backend with "
            "JAX_PLATFORMS"
        )
    return parse_program(text)


def parse_program(text: str) -> Program:
    """Parse HLO text."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = computations.setdefault(begun["name"], [])
            entry = begun["name"] if begun["entry"] else entry
        elif found := _INSTRUCTION.match(line):
            current.append(_parse_instruction(found))
    by_name = {instruction.name: instruction for lines in computations.values() for instruction in lines}
    module = _MODULE.search(text)
    return Program(name=module[1] if module else "", computations=computations, entry=entry, instructions=by_name)


def iterate_executed(program: Program, computation: str | None = None) -> Iterator[Instruction]:
    """Yield the instructions that run as operations of their own, from the entry unless a computation is named.

    A fusion is one operation. Loops are followed once, conditionals into all branches.
    """
    for instruction in program.computations[computation or program.entry]:
        if instruction.kind in _RUNS_OTHERS and instruction.called:
            for called in instruction.called:
                yield from iterate_executed(program, called)
        elif not instruction.kind.endswith(("-done", "-update")):  # counted where it started
            yield instruction


def read_cycles(instruction: Instruction) -> float | None:
    """Return the cycles that a TPU's compiler estimates for an operation; None without an estimate.

    There is none for transfers between memories and for a max pool's gradient. The largest int64 also means none.
    """
    found = _CYCLES.search(instruction.settings)
    return float(found[1]) if found and int(found[1]) < _NO_ESTIMATE else None


def read_source(instruction: Instruction) -> str:
    """Return the function and scopes of the traced code, such as `jit(run)/resnet50_512/jvp()/add`.

    It is empty for instructions that the compiler added. A fusion has the source of one of its instructions.
    """
    found = _SOURCE.search(instruction.settings)
    return found[1] if found else ""


def parse_arrays(shape: str) -> tuple[Array, ...]:
    """Parse a shape such as `(f32[64]{0:T(128)S(1)}, u8[1024]{0})`."""
    return tuple(map(_parse_array, _ARRAY.finditer(shape)))


def _parse_instruction(found: re.Match[str]) -> Instruction:
    operands, settings = _split_operands(found["rest"])
    called = [name for names in _CALLED.findall(settings) for name in _NAME.findall(names)]
    names = (operands,) if found["kind"] == "parameter" else tuple(_NAME.findall(operands))
    kind = found["kind"].removesuffix("-start")
    results = parse_arrays(_result_shape(found["kind"], found["shape"], settings))
    return Instruction(
        name=found["name"],
        kind=kind,
        results=results,
        operands=names,
        called=tuple(called),
        settings=settings,
        root=bool(found["root"]),
    )


def _result_shape(kind: str, shape: str, settings: str) -> str:
    """Return the part of a shape that an instruction computes.

    The shape of a `-start` also has its operands and contexts. That of a call to NVIDIA's libraries ends with scratch
    memory.
    """
    if kind == "copy-start":
        return _split_tuple(shape)[0]
    if kind.endswith("-start") and kind != "all-reduce-start":
        return _split_tuple(shape)[1]
    if kind == "custom-call" and _LIBRARY in settings and shape.startswith("("):
        *results, last = _split_tuple(shape)
        return ",".join(results if _SCRATCH.fullmatch(last) else [*results, last])
    return shape


def _split_tuple(shape: str) -> list[str]:
    """Return the shapes of a tuple's elements."""
    depth, elements = 0, [""]
    for character in shape[1:-1]:
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    return [re.sub(r"^\s*(/\*.*?\*/)?", "", element) for element in elements]


def _split_operands(rest: str) -> tuple[str, str]:
    """Split at the parenthesis that closes the operands, whose shapes may hold parentheses too."""
    depth = 1
    for at, character in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return rest[:at], rest[at + 1 :]
    return rest, ""


def _parse_array(found: re.Match[str]) -> Array:
    size = [int(n) for n in found["size"].split(",") if n]
    values = math.prod(size)
    order, _, placing = (found["layout"] or "").partition(":")
    tile, space = _TILE.search(placing), _SPACE.search(placing)
    if tile and size:
        # a tile covers the fastest axes; its last number belongs to the fastest
        axes = [int(n) for n in order.split(",")]
        for axis, n in zip(axes, reversed(tile[1].split(",")), strict=False):
            size[axis] = -(-size[axis] // int(n)) * int(n)
    bits = _BITS.match(found["kind"])
    each = int(bits[1]) / 8 if bits else 1
    return Array(values * each, math.prod(size) * each, space is None)
