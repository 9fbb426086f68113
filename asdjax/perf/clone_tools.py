"""Developers' tools in tests/perf of a clone, which an installed package does not have."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from asdjax.errors import InputError

FOLDER = Path(__file__).parents[2] / "tests" / "perf"


def require_tool(script: Path, flag: str) -> None:
    """Raise InputError if a script that the flag needs is missing."""
    if not script.is_file():
        raise InputError(
            f"{flag}: expected {script.name} in tests/perf of a clone of the repository, got an installed package; "
            f"run asdjax from a clone, or leave out {flag}"
        )


def load_tool(name: str, flag: str) -> ModuleType:
    """Import a module of tests/perf.

    Raises InputError if it is missing.
    """
    require_tool(FOLDER / f"{name}.py", flag)
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)
