"""Declaration of one configuration field: default, meaning, unit, source and rule."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from asdjax.errors import InputError

OPEN = "OPEN"  # the report is silent: the value is this project's choice, meant to be experimented with
SOFTWARE = "asdjax"  # a setting of this software, without a counterpart in the report


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Condition on a value, and the words for it in errors and in the table of fields."""

    expected: str
    allows: Callable[[Any], bool]


def between(low: float, high: float) -> Rule:
    """Return the rule that a number is in [low, high]."""
    return Rule(expected=f"{low} to {high}", allows=lambda value: low <= value <= high)


def any_of(names: tuple[str, ...]) -> Rule:
    """Return the rule that each item of a tuple is one of `names`."""
    return Rule(expected=f"any of {', '.join(names)}", allows=names.__contains__)


def positive(most: float = sys.float_info.max) -> Rule:
    """Return the rule that a number is in (0, most]; NaN and infinity break it."""
    at_most = f", {most} at most" if most < sys.float_info.max else ""
    return Rule(expected=f"a number above 0{at_most}", allows=lambda value: 0 < value <= most)


COUNT = positive(1_000_000_000)


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """Everything known about one field; `kind`, `item_kind` and `optional` follow from its annotation."""

    default: Any
    meaning: str
    unit: str = ""
    source: str = SOFTWARE
    rule: Rule | None = None  # of a tuple: for each of its items
    required: bool = False  # of a tuple: at least one item
    distinct: bool = False  # of a tuple: no item twice
    free_on_resume: bool = False  # may change between a run and its resumption
    kind: type = NoneType
    item_kind: type = NoneType
    optional: bool = False  # None is a value

    def describe_rule(self) -> str:
        """Return the conditions on a value in words, "" if there are none."""
        conditions = [self.rule.expected] if self.rule else []
        flags = {"at least one": self.required, "each once": self.distinct, "or None": self.optional}
        return "; ".join(conditions + [words for words, holds in flags.items() if holds])

    def check(self, name: str, value: Any) -> None:
        """Raise InputError if no run could use `value`; `name` is the field's dotted name."""
        if value is None and self.optional:
            return
        is_kind = isinstance(value, (int, float) if self.kind is float else self.kind)
        if not is_kind or isinstance(value, bool):
            raise InputError(f"config.{name}: expected a value such as {self.default!r}, got {value!r}")
        items = value if isinstance(value, tuple) else (value,)
        if self.kind is tuple and not all(type(item) is self.item_kind for item in items):
            raise InputError(f"config.{name}: expected values of kind {self.item_kind.__name__}, got {value!r}")
        if self.required and not items:
            raise InputError(f"config.{name}: expected at least one, got none")
        for item in items:
            if self.rule and not self.rule.allows(item):
                raise InputError(f"config.{name}: expected {self.rule.expected}, got {item!r}")
        if self.distinct and len(set(items)) < len(items):
            raise InputError(f"config.{name}: expected each once, got {', '.join(map(str, items))}")


def field[T](default: T, meaning: str, **details: Any) -> T:
    """Declare a field of a group: `batch_size: int = field(48, "batch of a step", unit="pieces")`.

    `details` are those of `FieldSpec`. As with `dataclasses.field`, the return type is the default's, so that type
    checkers see the field's type.
    """
    return cast(T, FieldSpec(default=default, meaning=meaning, **details))


class FieldGroup:
    """Base of the groups of fields.

    The groups are declarations, for the table of fields and for type checkers. At run time a configuration and its
    groups are `ml_collections.ConfigDict`.
    """

    if TYPE_CHECKING:

        def to_dict(self) -> dict[str, Any]:
            """Return the values as nested dictionaries."""
            ...

        def __getitem__(self, name: str) -> Any:
            """Return the value or group with this name."""
            ...


def collect_specs(group: type[FieldGroup], prefix: str = "") -> dict[str, FieldSpec]:
    """Return the specs of a group and of the groups in it by dotted name, in the order of declaration."""
    specs: dict[str, FieldSpec] = {}
    for name, annotation in inspect.get_annotations(group).items():
        if isinstance(annotation, type) and issubclass(annotation, FieldGroup):
            specs |= collect_specs(annotation, f"{prefix}{name}.")
        else:
            specs[prefix + name] = _annotate(vars(group)[name], annotation)
    return specs


def _annotate(spec: FieldSpec, annotation: Any) -> FieldSpec:
    """Return a spec with the kind of its annotation: int, float, str, one of these | None, Literal, or a tuple."""
    optional = NoneType in get_args(annotation)
    kind = get_args(annotation)[0] if optional else annotation
    several = get_origin(kind) is tuple
    item_kind = get_args(kind)[0] if several else kind
    if get_origin(item_kind) is Literal:
        choices = get_args(item_kind)
        rule = Rule(expected=f"one of {', '.join(choices)}", allows=choices.__contains__)
        return replace(spec, kind=str, item_kind=str, rule=rule)
    return replace(spec, kind=tuple if several else item_kind, item_kind=item_kind, optional=optional)
