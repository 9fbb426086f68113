"""Overrides of fields: the text of `--config.FIELD=TEXT` as a value, and a value of the Python API as a text."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike, fspath
from typing import Any

import numpy as np

from asdjax.config.field_spec import FieldSpec
from asdjax.config.fields import FIELDS, Config
from asdjax.config.validation import suggest
from asdjax.errors import InputError

# what the error messages call a value of a kind
_KINDS: Mapping[type, str] = {float: "a number", int: "a whole number"}


def apply_override(config: Config, name: str, text: str) -> None:
    """Set the field `name` (dotted) to the value that `text` spells; several values are `a,b` or `('a','b')`.

    Raises InputError for a group of fields, an unknown field, and a text of another kind.
    """
    members = [known for known in FIELDS if known.startswith(f"{name}.")]
    if members:
        raise InputError(f"config.{name}: is a group of fields; give one of them, such as config.{members[0]}")
    if name not in FIELDS:
        raise InputError(f"config.{name}: no such field; {suggest(name)}")
    *groups, leaf = name.split(".")
    branch: Any = config
    for group in groups:
        branch = branch[group]
    branch[leaf] = _parse(name, text, FIELDS[name])


def _parse(name: str, text: str, spec: FieldSpec) -> Any:
    if spec.kind is str:
        return text
    if spec.kind is tuple:
        return _parse_several(name, text, spec.item_kind)
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
        if value is None and spec.optional:
            return None
        if spec.kind is float and type(value) is int:
            value = float(value)
        if type(value) is spec.kind:
            return value
    raise InputError(f"config.{name}: expected {_KINDS[spec.kind]}, got {text!r}; its default is {spec.default!r}")


def _parse_several(name: str, text: str, item_kind: type) -> tuple:
    """Return the items of `a,b`, `('a','b')` or `a`; a bare `2021_1` or `1e3` is a name like any other."""
    items: Any = text.split(",")
    if text.strip().startswith(("(", "[", "'", '"')):
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text.strip())
            items = value if isinstance(value, tuple | list) else (value,)
    words = [str(item).strip() for item in items]
    try:
        return tuple(item_kind(word) for word in words if word)
    except ValueError:
        numbers = "whole numbers such as 1,2" if item_kind is int else "numbers such as 0.5,0.75"
        raise InputError(f"config.{name}: expected {numbers}, got {text!r}") from None


def as_texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Return override values as the texts that flags would have."""
    plain = {field: _as_plain(value) for field, value in overrides.items()}
    return {field: value if isinstance(value, str) else repr(value) for field, value in plain.items()}


def _as_plain(value: Any) -> Any:
    """Return paths as texts and numpy's numbers as Python's, also in sequences."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_as_plain, value)) if isinstance(value, list | tuple) else value
