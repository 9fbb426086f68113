"""Compiled programs as XLA writes them out: what runs, on which arrays."""

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
    """Bytes of an array's values; of the place where it lies, padded to whole tiles; whether that is in the device's
    memory, not in one that the processor has for itself, such as a TPU's vector memory."""

    bytes: float
    place_bytes: float
    in_memory: bool


class Instruction(NamedTuple):
    """One line of a computation: what it makes, by names the instructions that it takes from and the computations that
    it calls; of a parameter the operand is its number. What only begins is of the kind that it begins: `copy-start` of
    `copy`."""

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    settings: str
    root: bool


class Program(NamedTuple):
    """Its own name, computations by name, the first to run, and all their instructions by name."""

    name: str
    computations: dict[str, list[Instruction]]
    entry: str
    instructions: dict[str, Instruction]


def program_of(compiled: Compiled) -> Program:
    """What XLA made of a jitted function.

    Raises InputError where it does not show it.
    """
    text = compiled.as_text()
    if not text:
        raise InputError(
            "expected the compiled program as text, from which its bytes are counted, came none; this JAX backend does "
            "not show it, so give another (JAX_PLATFORMS)"
        )
    return parsed(text)


def parsed(text: str) -> Program:
    """The program that HLO text holds."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = computations.setdefault(begun["name"], [])
            entry = begun["name"] if begun["entry"] else entry
        elif found := _INSTRUCTION.match(line):
            current.append(_instruction(found))
    by_name = {instruction.name: instruction for lines in computations.values() for instruction in lines}
    module = _MODULE.search(text)
    return Program(module[1] if module else "", computations, entry, by_name)


def executed(program: Program, computation: str | None = None) -> Iterator[Instruction]:
    """What runs as an operation of its own: fusions whole, loops in one turn, conditionals in all their branches."""
    for instruction in program.computations[computation or program.entry]:
        if instruction.kind in _RUNS_OTHERS and instruction.called:
            for called in instruction.called:
                yield from executed(program, called)
        elif not instruction.kind.endswith(("-done", "-update")):  # of what has begun before
            yield instruction


def cycles(instruction: Instruction) -> float | None:
    """By the estimate that a TPU's compiler writes beside most operations, though not beside transfers between memories
    and a max pool's gradient; None where there is none, for which it also writes the largest int64."""
    found = _CYCLES.search(instruction.settings)
    return float(found[1]) if found and int(found[1]) < _NO_ESTIMATE else None


def source(instruction: Instruction) -> str:
    """The function and scopes that it was traced in, such as `jit(run)/resnet50_512/jvp()/add`; empty where the
    compiler made it of its own accord. A fusion has one of those of what is in it."""
    found = _SOURCE.search(instruction.settings)
    return found[1] if found else ""


def arrays(shape: str) -> tuple[Array, ...]:
    """Of a shape such as `(f32[64]{0:T(128)S(1)}, u8[1024]{0})`."""
    return tuple(map(_array, _ARRAY.finditer(shape)))


def _instruction(found: re.Match[str]) -> Instruction:
    operands, settings = _split(found["rest"])
    called = [name for names in _CALLED.findall(settings) for name in _NAME.findall(names)]
    names = (operands,) if found["kind"] == "parameter" else tuple(_NAME.findall(operands))
    kind = found["kind"].removesuffix("-start")
    results = arrays(_results(found["kind"], found["shape"], settings))
    return Instruction(found["name"], kind, results, names, tuple(called), settings, bool(found["root"]))


def _results(kind: str, shape: str, settings: str) -> str:
    """The part of a shape that an instruction makes: what begins something names also what it takes, and contexts; a
    call to one of NVIDIA's libraries names its scratch memory last."""
    if kind == "copy-start":
        return _elements(shape)[0]
    if kind.endswith("-start") and kind != "all-reduce-start":
        return _elements(shape)[1]
    if kind == "custom-call" and _LIBRARY in settings and shape.startswith("("):
        *made, last = _elements(shape)
        return ",".join(made if _SCRATCH.fullmatch(last) else [*made, last])
    return shape


def _elements(shape: str) -> list[str]:
    """Of a tuple's shape its elements' shapes."""
    depth, elements = 0, [""]
    for character in shape[1:-1]:
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    return [re.sub(r"^\s*(/\*.*?\*/)?", "", element) for element in elements]


def _split(rest: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes the operands, and what after; shapes among them may have their
    own."""
    depth = 1
    for at, character in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return rest[:at], rest[at + 1 :]
    return rest, ""


def _array(found: re.Match[str]) -> Array:
    size = [int(n) for n in found["size"].split(",") if n]
    values = math.prod(size)
    order, _, placing = (found["layout"] or "").partition(":")
    tile, space = _TILE.search(placing), _SPACE.search(placing)
    if tile and size:
        # a tile covers the fastest axes, its last number the fastest
        axes = [int(n) for n in order.split(",")]
        for axis, n in zip(axes, reversed(tile[1].split(",")), strict=False):
            size[axis] = -(-size[axis] // int(n)) * int(n)
    bits = _BITS.match(found["kind"])
    each = int(bits[1]) / 8 if bits else 1
    return Array(values * each, math.prod(size) * each, space is None)
