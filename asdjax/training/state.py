"""The settings and the arrays of a training step: TrainSpec and TrainState.

Letters: m runs in one program.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from asdjax.config.fields import Config
from asdjax.fleet import fleet_model
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.models.variants import PARAMETER_GROUPS, Arrays
from asdjax.runtime import hardware
from asdjax.training import optimizer
from asdjax.training.optimizer import Sgd

#: Steps per dispatch on a GPU or TPU, unless the configuration gives a number.
STEPS_PER_DISPATCH = 50


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Settings that a compiled step depends on besides array shapes. Hashable: equal specs share one program."""

    model: ModelSpec
    trainable: tuple[str, ...]
    max_weight: float
    labels: str
    batch_size: int
    sgd: Sgd
    average_decay: float
    steps_per_dispatch: int
    variants_per_group: int

    @property
    def variants(self) -> tuple[str, ...]:
        """Return the variants of the fleet."""
        return self.model.variants

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the variants in groups: the gradients of one group are computed before the next group begins."""
        size = self.variants_per_group
        return tuple(self.variants[i : i + size] for i in range(0, len(self.variants), size))

    @property
    def frozen(self) -> tuple[str, ...]:
        """Return the parameter groups that do not train."""
        return tuple(group for group in PARAMETER_GROUPS if group not in self.trainable)

    @property
    def frozen_backbone(self) -> tuple[str, ...]:
        """Return the frozen parameter groups of the backbone, whose batch statistics are frozen too."""
        return tuple(group for group in self.frozen if group != "arcface")


def make_train_spec(config: Config, classes: int, trainable: tuple[str, ...], variants_per_group: int) -> TrainSpec:
    """Return the spec of a phase that trains some parameter groups."""
    return TrainSpec(
        model=fleet_model.make_spec(config, classes),
        trainable=trainable,
        max_weight=config.mixup.max_weight,
        average_decay=config.optimizer.average_decay,
        labels=config.mixup.labels,
        batch_size=config.train.batch_size,
        sgd=Sgd(config.optimizer.momentum, config.optimizer.weight_decay, config.optimizer.clip_norm),
        steps_per_dispatch=config.train.steps_per_dispatch or (STEPS_PER_DISPATCH if hardware.on_accelerator() else 1),
        variants_per_group=variants_per_group,
    )


class TrainState(NamedTuple):
    """Arrays that a step reads and may change, by variant, then by path.

    `average` is the moving average of `trainable` and `statistics`; it is empty if none is wanted.
    The state of several runs in one program has a leading axis (m,) in every array.
    """

    trainable: dict[str, Arrays]
    frozen: dict[str, Arrays]
    statistics: dict[str, Arrays]
    velocity: dict[str, optax.OptState]
    average: Model


def init_state(spec: TrainSpec, model: Model) -> TrainState:
    """Return the state at a phase's first step: the given model, zero velocity, an average of this model alone."""
    trainable, frozen, velocity = {}, {}, {}
    for variant, arrays in model.parameters.items():
        trainable[variant], frozen[variant] = optimizer.partition(arrays, spec.trainable)
        velocity[variant] = optimizer.make_optimizer(spec.sgd).init(trainable[variant])
    average = Model(trainable, model.statistics) if spec.average_decay else Model({}, {})
    return TrainState(trainable, frozen, model.statistics, velocity, average)


def describe_state(spec: TrainSpec) -> TrainState:
    """Return a state's shapes and dtypes."""
    return jax.eval_shape(functools.partial(init_state, spec), fleet_model.describe_model(spec.model))


def get_model(state: TrainState) -> Model:
    """Return the model in a state, trainable and frozen parameters together; the moving average, if there is one."""
    model = state.average if state.average.parameters else Model(state.trainable, state.statistics)
    return Model({v: {**arrays, **state.frozen[v]} for v, arrays in model.parameters.items()}, model.statistics)


def list_unfinished(state: TrainState) -> dict[str, Any]:
    """Return the trees besides `get_model` that a phase needs to go on, by name; `resume` is the inverse."""
    trained = {"trained": Model(state.trainable, state.statistics)} if state.average.parameters else {}
    return {"optimizer": state.velocity, **trained}


def resume(state: TrainState, trees: Mapping[str, Any]) -> TrainState:
    """Return a state with the restored trees of `list_unfinished`, as far as there are any."""
    if "trained" in trees:
        state = state._replace(trainable=trees["trained"].parameters, statistics=trees["trained"].statistics)
    return state._replace(velocity=trees["optimizer"]) if "optimizer" in trees else state


def stack_states(states: Sequence[TrainState]) -> TrainState:
    """Return states of m runs as one with a leading axis (m,), on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def select_run(state: TrainState, run: int) -> TrainState:
    """Return a copy of one run's state out of that of m runs, on the host."""
    return jax.tree.map(lambda leaf: np.array(leaf[run]), state)
