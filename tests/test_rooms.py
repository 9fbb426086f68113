"""The structure of the package: imports run down only, names are unique, functions and files are short."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT

PACKAGE = PROJECT / "asdjax"
FILES = sorted(PACKAGE.rglob("*.py"))

# a room imports only from rooms in earlier entries, or from itself
ORDER = (
    {"errors"},
    {"runtime"},
    {"config"},
    {"models", "features"},
    {"data"},
    {"fleet"},
    {"training", "inference"},
    {"evaluation"},
    {"report", "perf"},
    {"api_detector"},
    {"api"},
    {"cli"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# longer or wider than the limits, each with its reason
LONG_FUNCTIONS = {"train_phase": "the numbered main of the training loop"}
WIDE_FUNCTIONS = {
    "load": "keyword arguments of the Python API",
    "prepare_evaluation": "keyword arguments of the Python API",
    "embed_clips": "four are keyword options",
}
LONG_FILES: dict[str, str] = {}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "asdjax" and len(parts) > 1 and parts[1] in LEVEL:
                yield parts[1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_from_earlier_rooms_only(file: Path):
    room = room_of(file)
    if room == "__init__":
        return
    wrong = {other for other in imported_rooms(file) if other != room and LEVEL[other] >= LEVEL[room]}
    if room in ("inference", "evaluation", "report"):
        wrong |= {other for other in imported_rooms(file) if other == "training"}
    assert not wrong


def test_every_room_has_its_place_in_the_order():
    assert {room_of(file) for file in FILES} - {"__init__"} == LEVEL.keys()


def test_module_and_class_names_are_unique():
    modules = Counter(file.stem for file in FILES if not file.stem.startswith("__"))
    classes = Counter(
        node.name for file in FILES for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, number in (modules + classes).items() if number > 1] == []


def functions(file: Path) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))


def lines_without_docstring(function: ast.FunctionDef) -> int:
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) and first.end_lineno else 0
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - docstring


def test_functions_and_files_are_short():
    """The exceptions are named above with their reasons, and none is out of date."""
    long, wide = set(), set()
    for function in (function for file in FILES for function in functions(file)):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        if lines_without_docstring(function) > 40:
            long.add(function.name)
        if len([argument for argument in arguments if argument.arg not in ("self", "cls")]) > 6:
            wide.add(function.name)
    long_files = {file.stem for file in FILES if len(file.read_text().splitlines()) > 300}
    assert (long, wide, long_files) == (LONG_FUNCTIONS.keys(), WIDE_FUNCTIONS.keys(), LONG_FILES.keys())
