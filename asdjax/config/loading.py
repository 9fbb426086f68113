"""Configurations from files, flags and JSON, and the resolved one in the work directory."""

import importlib.util
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from ml_collections import ConfigDict

from asdjax.config.evaluation_fields import EVALUATION_PREFIXES
from asdjax.config.fields import FIELDS, Config, default_config, flatten_fields
from asdjax.config.overrides import apply_override
from asdjax.config.validation import validate
from asdjax.errors import InputError
from asdjax.runtime.files import is_locked, replace_text
from asdjax.runtime.paths import compose, require_path, resolve_path

FILE = "config.json"

#: Prefixes of the fields that may change after training.
FREE_AFTER_TRAINING = (*EVALUATION_PREFIXES, "data.root", "data.truth", "data.exclude", "data.store", "data.machines")


def load(config: str | ConfigDict | Config, overrides: Mapping[str, str]) -> Config:
    """Return a validated configuration with overrides.

    `config` is a .py file, the bare name of a shipped one, or a configuration, which stays as it is. A file's name may
    end in `:argument`, which is passed to its get_config(argument). Raises InputError that names the file or the field.
    """
    if isinstance(config, str):
        source, argument = _find(config)
        resolved = _call_get_config(source, argument)
    else:
        source, resolved = "config", cast(Config, ConfigDict(cast(ConfigDict, config).to_dict()))
    missing = sorted(FIELDS.keys() - flatten_fields(resolved).keys())
    if missing:
        raise InputError(
            f"{source}: expected a value of config.{missing[0]}, got none; let get_config() start from "
            "asdjax.default_config()"
        )
    for name, text in overrides.items():
        apply_override(resolved, name, text)
    _normalise_names(resolved)
    validate(resolved)
    return resolved


def _find(path: str) -> tuple[Path, str | None]:
    """Return the file that `path` names, and the argument behind its colon, None without a colon."""
    shipped = [root / "configs" for root in Path(__file__).parents[1:3]]
    colons = [i for i, letter in enumerate(path) if letter == ":"]  # a folder's name may have one, too
    for text, found_argument in ((path, None), *((path[:i], path[i + 1 :]) for i in colons)):
        for candidate in (resolve_path(text), *(folder / f"{text}.py" for folder in shipped)):
            if candidate.suffix == ".py" and candidate.is_file():
                return candidate, found_argument
    names = sorted({file.stem for folder in shipped if folder.is_dir() for file in folder.glob("*.py")})
    got = "another kind of file" if resolve_path(path).exists() else "none"
    raise InputError(
        f"config {path}: expected a .py file, got {got}; give the path of one, or one of the names {', '.join(names)}"
    )


def _call_get_config(file: Path, argument: str | None) -> Config:
    """Return the result of a file's get_config(), or of its get_config(argument)."""
    spec = importlib.util.spec_from_file_location("asdjax_user_config", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    arguments = () if argument is None else (argument,)
    try:
        spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", lambda *_: None)
        _require_signature(file, get_config, arguments)
        config = get_config(*arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code can raise anything
        raise InputError(f"{file}: {type(error).__name__}: {error}; correct the file") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{file}: expected a function get_config() that returns a ConfigDict, got {type(config).__name__}; "
            "see configs/dcase2021.py"
        )
    return cast(Config, config)


def _require_signature(file: Path, get_config: Callable, arguments: tuple[str, ...]) -> None:
    """Require that get_config() takes these arguments."""
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        if arguments:
            raise InputError(
                f"{file}: expected no argument, as its get_config() takes none, got {arguments[0]!r}; "
                f"leave :{arguments[0]} out of the name"
            ) from None
        raise InputError(
            f"{file}: expected an argument, as its get_config() needs one, got none; give {file}:ARGUMENT"
        ) from None


def _normalise_names(config: Config) -> None:
    """Expand `~` in folders and spell them as the disk does; compose the names of machine types.

    Values of another kind are left for `validate`.
    """
    data = config.data
    if not all(isinstance(value, str) for value in (*(data.root or ()), *(data.machines or ()))):
        return
    data.root = data.root and tuple(map(_normalise_folder, data.root))
    data.truth = data.truth and _normalise_folder(data.truth)
    data.exclude = data.exclude and _normalise_folder(data.exclude)
    data.store = data.store and _normalise_folder(data.store)
    data.machines = data.machines and tuple(map(compose, data.machines))


def _normalise_folder(text: str) -> str:
    """Return a folder with `~` expanded and spelled as on disk. ASCII paths without `~` stay as they are."""
    require_path(text)
    return str(resolve_path(text)) if text.startswith("~") or not text.isascii() else text


def make_absolute(config: Config) -> None:
    """Make the folders absolute, so that later commands find them from any current folder."""
    data = config.data
    data.root = tuple(map(os.path.abspath, data.root))
    data.truth = data.truth and os.path.abspath(data.truth)
    data.exclude = data.exclude and os.path.abspath(data.exclude)
    data.store = data.store and os.path.abspath(data.store)


def save(config: Config, workdir: Path) -> None:
    """Write W/config.json into an existing work directory."""
    replace_text(workdir / FILE, json.dumps(config.to_dict(), indent=2) + "\n")


def read(
    workdir: Path,
    overrides: Mapping[str, str] = MappingProxyType({}),
    free: tuple[str, ...] = FREE_AFTER_TRAINING,
) -> Config:
    """Return the resolved configuration of a work directory, with overrides of fields that begin with one of `free`.

    Raises InputError for a missing or damaged file, and for an override of another field.
    """
    file = workdir / FILE
    if not file.is_file():
        raise InputError(
            f"{file}: expected the configuration of an `asdjax train`, got no such file; give the work directory of one"
        )
    try:
        config = parse(json.loads(file.read_text()))
    except (OSError, ValueError, InputError) as error:
        raise InputError(
            f"{file}: expected a run's configuration, got {error}; restore it, or train in another work directory"
        ) from None
    apply_changes(config, overrides, free)
    return config


def apply_changes(config: Config, overrides: Mapping[str, str], free: tuple[str, ...]) -> None:
    """Apply overrides of fields that begin with one of `free`; raise InputError for an override of another field."""
    for name, text in overrides.items():
        if name in FIELDS and not name.startswith(free):
            allowed = ", ".join(f"{prefix}*" if prefix.endswith(".") else prefix for prefix in free)
            remedy = "train in another work directory"
            if name.startswith(FREE_AFTER_TRAINING):
                remedy = f"give config.{name} to asdjax evaluate"
            raise InputError(
                f"config.{name}: expected a field that may change here ({allowed}), got another; leave it out, or "
                f"{remedy}"
            )
        apply_override(config, name, text)
    _normalise_names(config)
    make_absolute(config)
    validate(config)


def parse(content: Any) -> Config:
    """Return the validated configuration in the content of a JSON file; a field that it lacks has its default.

    Raises InputError if the content is no configuration.
    """
    config = default_config()
    try:
        cast(ConfigDict, config).update(_make_tuples(content))
    except (ValueError, TypeError, AttributeError) as error:  # ConfigDict's, for a value of another kind
        raise InputError(str(error)) from error
    validate(config)
    return config


def _make_tuples(value: Any) -> Any:
    """Return JSON's content with tuples for its lists."""
    if isinstance(value, dict):
        return {key: _make_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def list_settled(config: Config) -> dict[str, Any]:
    """Return the fields, without the seed, that a run depends on and that no later command may change."""
    return {
        name: value
        for name, value in flatten_fields(config).items()
        if not FIELDS[name].free_on_resume and not name.startswith((*EVALUATION_PREFIXES, "seed"))
    }


def require_same_run(config: Config, workdir: Path, own: Sequence[Path] = ()) -> None:
    """Require that a work directory was trained with the same settled fields, if a run there has begun.

    A run has begun if it has a checkpoint, or if another process is at work in its folder; `own` are the folders of
    this process. Seeds may be added where there are several. Raises InputError that names the fields that differ, and
    if the work directory is a file.
    """
    if os.path.isfile(workdir):
        raise InputError(f"workdir {workdir}: expected a folder, or nothing there yet, got a file; choose another")
    file = workdir / FILE
    if not file.exists():
        return
    theirs = flatten_fields(read(workdir))
    differing = [
        f"{name} (there {theirs[name]!r}, now {value!r})"
        for name, value in list_settled(config).items()
        if theirs[name] != value
    ]
    if (not differing and theirs["seed"] == config.seed) or not _has_begun(workdir, own):
        return
    _require_seeds(file, theirs["seed"], config.seed)
    if differing:
        raise InputError(
            f"{file}: the run there differs in {', '.join(differing)}; give the same values to resume it, "
            "or another work directory for a new run"
        )


def _has_begun(workdir: Path, own: Sequence[Path]) -> bool:
    others = (folder for folder in workdir.iterdir() if folder.is_dir() and folder not in own)
    return any(workdir.glob("*/*/[0-9]*.json")) or any(map(is_locked, others))


def _require_seeds(file: Path, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
    """Require the same seeds, or more of them where there are several: each of several has a folder of its own."""
    if theirs == ours or (len(theirs) > 1 and set(theirs) <= set(ours)):
        return
    if (len(theirs) > 1) != (len(ours) > 1):
        why = "folders of one seed are called <task>, of several <task>@<seed>"
    elif len(theirs) > 1:
        why = "seeds can be added, not taken away"
    else:
        why = "a run with one seed keeps it"
    there, now = (",".join(map(str, seeds)) for seeds in (theirs, ours))
    raise InputError(
        f"{file}: the run there has seed {there}, now {now}: {why}; give seed={there} to resume it, or "
        "another work directory for other seeds"
    )
