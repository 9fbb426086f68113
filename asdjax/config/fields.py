"""Configuration: all fields, their defaults, and numbers that follow from them.

The groups are declared in data_fields.py, training_fields.py and evaluation_fields.py; configs/README.md has the table.
The source "report" is Zhou 2021, the technical report that this project reproduces.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal, cast

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from asdjax.config.data_fields import DataFields, SignalFields
from asdjax.config.evaluation_fields import BaselinesFields, EvaluateFields
from asdjax.config.field_spec import FieldGroup, FieldSpec, any_of, between, collect_specs, field
from asdjax.config.training_fields import (
    MOST_STEPS,
    ArcFaceFields,
    MixupFields,
    NormalisationFields,
    OptimizerFields,
    ParallelFields,
    Phase1Fields,
    Phase2Fields,
    TrainFields,
)
from asdjax.errors import InputError

#: The variants of models/variants.py, repeated here because this module does not import JAX.
VARIANTS = (
    "mobilefacenet_1024",
    "mobilefacenet_512",
    "resnet50_1024",
    "resnet50_512",
    "efficientnet_b0_1024",
    "efficientnet_b0_512",
)

#: Name of phase 1's checkpoint line.
PHASE1 = "phase1"


class Config(FieldGroup):
    """Configuration of training and evaluation; at run time an `ml_collections.ConfigDict`."""

    seed: tuple[int, ...] = field(
        (0,), "seeds; each trains a fleet of its own", rule=between(0, 2**32 - 1), required=True, distinct=True
    )
    variants: tuple[str, ...] = field(
        VARIANTS, "models of a fleet", source="report", rule=any_of(VARIANTS), required=True, distinct=True
    )
    width: float = field(1.0, "factor of every backbone's channels", source="report", rule=between(0.01, 16))
    data: DataFields
    signal: SignalFields
    normalisation: NormalisationFields
    loss: Literal["arcface", "adacos_fixed", "adacos", "subcluster_adacos"] = field(
        "arcface", "loss; AdaCos: Zhang 2019, sub-cluster AdaCos: Wilkinghoff 2021", source="report"
    )
    arcface: ArcFaceFields
    mixup: MixupFields
    optimizer: OptimizerFields
    train: TrainFields
    parallel: ParallelFields
    phase1: Phase1Fields
    phase2: Phase2Fields
    evaluate: EvaluateFields
    baselines: BaselinesFields


#: All fields by dotted name.
FIELDS: Mapping[str, FieldSpec] = MappingProxyType(collect_specs(Config))


def default_config() -> Config:
    """Return the report's settings for DCASE 2021, for configs/*.py to change."""
    config = ConfigDict()
    for name, spec in FIELDS.items():
        *groups, leaf = name.split(".")
        branch: Any = config
        for group in groups:
            if group not in branch:
                branch[group] = ConfigDict()
            branch = branch[group]
        branch[leaf] = placeholder(spec.kind) if spec.default is None else spec.default
    return cast(Config, config)


def flatten_fields(config: Config | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Return every value by its dotted name."""
    values: dict[str, Any] = {}
    for name, value in cast(ConfigDict, config).items():
        if isinstance(value, ConfigDict):
            values |= flatten_fields(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def name_phase2(strategy: str) -> str:
    """Return the name of the checkpoint line of a strategy of phase 2."""
    return f"phase2_{strategy}"


def count_phase1_steps(config: Config, source_clips: int) -> int:
    """Return the steps of phase 1: `phase1.steps` if set, else those of its epochs.

    Raises InputError if the epochs have too many steps.
    """
    if config.phase1.steps is not None:
        return config.phase1.steps
    return _count_steps("phase1", config.phase1.epochs, config, source_clips)


def count_phase2_steps(config: Config, source_clips: int) -> int:
    """Return the steps of a strategy of phase 2: those of `phase2.epochs` if set, else `phase2.steps`.

    Raises InputError if the epochs have too many steps.
    """
    if config.phase2.epochs is None:
        return config.phase2.steps
    return _count_steps("phase2", config.phase2.epochs, config, source_clips)


def _count_steps(phase: str, epochs: float, config: Config, source_clips: int) -> int:
    """Return epochs * source_clips / batch size, rounded up."""
    steps = math.ceil(Fraction(str(epochs)) * source_clips / config.train.batch_size)
    if steps > MOST_STEPS:
        raise InputError(
            f"config.{phase}.epochs: expected {MOST_STEPS} steps at most, got {epochs} epochs, which are {steps} "
            f"steps of {source_clips} clips at batch size {config.train.batch_size}; give fewer epochs"
        )
    return steps


def list_evaluated_lines(config: Config) -> tuple[str, ...]:
    """Return the checkpoint lines that make the models, in the order of `evaluate.lines`."""
    if config.evaluate.lines:
        return tuple(config.evaluate.lines)
    return (name_phase2(config.phase2.strategies[0]),) if config.phase2.strategies else (PHASE1,)
