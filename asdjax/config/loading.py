"""Configurations from files and flags, and the resolved one in the work directory."""

import ast
import contextlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from asdjax.config.fields import Config, default_config, flatten_fields, item_type, suggest, validate
from asdjax.errors import InputError
from asdjax.runtime.files import replace_text
from asdjax.runtime.paths import composed, given

FILE = "config.json"

# fields that may differ between a run and its resumption: they change no number that is computed (that the clips
# under another root are the same ones is seen to by training/record.py), or, as any other number of devices for a task
# does, its last digits only
FREE_ON_RESUME = frozenset(
    {
        "data.root",
        "data.truth",
        "data.store",
        "train.log_every_steps",
        "train.checkpoint_every_steps",
        "train.keep",
        "parallel.device_groups",
        "parallel.fleets_per_program",
    }
)
OF_EVALUATION = ("evaluate.", "baselines.")
"""What fields begin with that training never reads."""

FREE_AFTER_TRAINING = (*OF_EVALUATION, "data.root", "data.truth", "data.store")
"""What fields that an evaluation may change begin with."""


def load(path: str, overrides: Mapping[str, str]) -> Config:
    """The configuration of a .py file (or the bare name of one that is shipped) with overrides, validated.

    Raises InputError naming the field: an unknown one with its nearest neighbours, a value of the wrong kind.
    """
    file = _find(path)
    config = _called(file)
    missing = sorted(flatten_fields(default_config()).keys() - flatten_fields(config).keys())
    if missing:
        raise InputError(
            f"{file}: config.{missing[0]} is missing; let get_config() start from asdjax.config.fields.default()"
        )
    for field, text in overrides.items():
        _override(config, field, text)
    _as_on_disk(config)
    validate(config)
    return config


def _as_on_disk(config: Config) -> None:
    """Expand `~` in folders and spell them as the disk does; compose the names of machine types.

    Values of another kind are left to `validate`.
    """
    data = config.data
    if not all(isinstance(value, str) for value in (*(data.root or ()), *(data.machines or ()))):
        return
    data.root = data.root and tuple(map(_folder, data.root))
    for field in ("truth", "store"):
        data[field] = _folder(data[field]) if data[field] else data[field]
    data.machines = data.machines and tuple(map(composed, data.machines))


def _folder(text: str) -> str:
    """Return a folder as `paths.given` takes it, as text that keeps what it says of the current folder."""
    return str(given(text)) if text.startswith("~") or not text.isascii() else text


def _called(file: Path) -> Config:
    """What a file's get_config() returns."""
    spec = importlib.util.spec_from_file_location("asdjax_user_config", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything may be wrong with it
        raise InputError(f"{file}: {type(error).__name__}: {error}; mend the file") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{file}: expected a function get_config() that returns a ConfigDict, came {type(config).__name__}; "
            "see configs/dcase2021.py"
        )
    return config


def make_absolute(config: Config) -> None:
    """Folders as absolute paths, so that later commands find them from wherever they are called."""
    config.data.root = tuple(map(os.path.abspath, config.data.root))
    for field in ("truth", "store"):
        if config.data[field]:
            config.data[field] = os.path.abspath(config.data[field])


def _find(path: str) -> Path:
    shipped = [root / "configs" for root in Path(__file__).parents[1:3]]
    candidates = [given(path), *(folder / f"{path}.py" for folder in shipped)]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix == ".py":
            return candidate
    names = sorted({file.stem for folder in shipped if folder.is_dir() for file in folder.glob("*.py")})
    raise InputError(f"--config {path}: no such .py file; give the path of one, or one of the names {', '.join(names)}")


def _override(config: Config, field: str, text: str) -> None:
    group = [name for name in flatten_fields(config) if name.startswith(f"{field}.")]
    if group:
        raise InputError(f"--config.{field}: is a group of fields; give one of them, such as --config.{group[0]}")
    if field not in flatten_fields(config):
        raise InputError(f"--config.{field}: no such field; {suggest(field)}")
    *parents, leaf = field.split(".")
    branch = config
    for parent in parents:
        branch = branch[parent]
    like = branch[leaf]
    kind = branch.get_type(leaf) if like is None else type(like)
    branch[leaf] = _parsed(field, text, kind, like)


def _parsed(field: str, text: str, kind: type, like: Any) -> Any:
    if kind is str:
        return text
    if kind is tuple:
        return _several(text, item_type(field), field)
    try:
        value = ast.literal_eval(text)
        if value is None and flatten_fields(default_config())[field] is None:
            return None
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError
    except (ValueError, SyntaxError):
        raise InputError(f"--config.{field}: expected {kind.__name__}, got {text!r}; its default is {like!r}") from None
    return value


def _several(text: str, kind: type, field: str) -> tuple:
    """`a,b`, `('a','b')` or `a` -> a tuple; a bare `2021_1` or `1e3` is a name like any other."""
    items: Any = text.split(",")
    if text.strip().startswith(("(", "[", "'", '"')):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text.strip())
            items = value if isinstance(value, tuple | list) else (value,)
    words = [str(item).strip() for item in items]
    try:
        return tuple(kind(word) for word in words if word)
    except ValueError:
        numbers = "whole numbers such as 1,2" if kind is int else "numbers such as 0.5,0.75"
        raise InputError(f"--config.{field}: expected {numbers}, got {text!r}") from None


def save(config: Config, workdir: Path) -> None:
    """Write W/config.json; W is there."""
    replace_text(workdir / FILE, json.dumps(config.to_dict(), indent=2) + "\n")


def require_same_run(config: Config, workdir: Path) -> None:
    """See that W/config.json, if there is one and anything was trained by it, asks for the same run.

    Seeds may be added where there are several. Raises InputError naming the fields that differ and would change what
    is computed.
    """
    file = workdir / FILE
    if not file.exists() or not any(workdir.glob("*/*/[0-9]*.json")):
        return
    theirs = flatten_fields(read(workdir))
    _require_seeds(file, theirs["seed"], config.seed)
    differing = [
        f"{field} (there {theirs[field]!r}, now {value!r})"
        for field, value in settled(config).items()
        if theirs[field] != value
    ]
    if differing:
        raise InputError(
            f"{file}: the run there differs in {', '.join(differing)}; give the same values to go on, "
            "or another --workdir to begin anew"
        )


def _require_seeds(file: Path, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
    """Each of several seeds has a folder of its own, so that more of them disturb none."""
    if theirs == ours or (len(theirs) > 1 and set(theirs) <= set(ours)):
        return
    if (len(theirs) > 1) != (len(ours) > 1):
        why = "folders of one seed are called <task>, of several <task>@<seed>"
    elif len(theirs) > 1:
        why = "seeds can be added, not taken away"
    else:
        why = "a run begun with one seed keeps it"
    there, now = (",".join(map(str, seeds)) for seeds in (theirs, ours))
    raise InputError(
        f"{file}: the run there has seed {there}, now {now}: {why}; give --config.seed={there} to go on, or another "
        "--workdir for other seeds"
    )


def read(
    workdir: Path,
    overrides: Mapping[str, str] = MappingProxyType({}),
    free: tuple[str, ...] = FREE_AFTER_TRAINING,
) -> Config:
    """The resolved configuration of a work directory, with overrides of fields that begin with one of `free`.

    Raises InputError where there is none, and for an override of anything else.
    """
    file = workdir / FILE
    if not file.is_file():
        raise InputError(f"{file}: no such file; is {workdir} the --workdir of an `asdjax train`?")
    try:
        config = parsed(json.loads(file.read_text()))
    except (OSError, ValueError, InputError) as error:
        raise InputError(
            f"{file}: expected a run's configuration, got {error}; restore it, or train in another --workdir"
        ) from None
    change(config, overrides, free)
    return config


def change(config: Config, overrides: Mapping[str, str], free: tuple[str, ...]) -> None:
    """Apply overrides of fields that begin with one of `free`; raises InputError for one of anything else."""
    for field, text in overrides.items():
        if field in flatten_fields(config) and not field.startswith(free):
            allowed = ", ".join(f"{name}*" if name.endswith(".") else name for name in free)
            raise InputError(f"--config.{field}: settled earlier; what may change here is {allowed}")
        _override(config, field, text)
    _as_on_disk(config)
    make_absolute(config)
    validate(config)


def parsed(content: Any) -> Config:
    """Return the configuration that JSON holds, validated; a field that it lacks has its default.

    Raises InputError for what is none.
    """
    config = default_config()
    try:
        config.update(_tuples(content))
    except (ValueError, TypeError, AttributeError) as error:  # of ConfigDict, for a value of another kind
        raise InputError(str(error)) from error
    validate(config)
    return config


def settled(config: Config) -> dict[str, Any]:
    """Return the fields that a fleet depends on and that no later command may change, its seed left out."""
    return {
        field: value
        for field, value in flatten_fields(config).items()
        if field not in FREE_ON_RESUME and not field.startswith((*OF_EVALUATION, "seed"))
    }


def _tuples(value: Any) -> Any:
    """JSON knows lists only; a configuration has tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
