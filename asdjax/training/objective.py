"""What a step of a fleet minimises: the mixup losses of all variants, which one vmapped head makes of embeddings.

Letters: v variants, b batch, d embedding, k classes.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from asdjax.models import heads, variants
from asdjax.models.heads import Labels
from asdjax.models.variants import Arrays
from asdjax.training import fleet
from asdjax.training.fleet import CENTRES, SCALE, FleetSpec, FleetState, Model
from asdjax.training.sampler import Draw


class Outcome(NamedTuple):
    """Of a batch of each variant, (v,): mixup loss; share of rows whose nearest centre is the heavier clip's class.
    Then all variants' statistics as the batch leaves them."""

    loss: jax.Array
    accuracy: jax.Array
    statistics: dict[str, Arrays]


def objective(
    spec: FleetSpec, trainable: dict[str, Arrays], state: FleetState, pieces: Sequence[jax.Array], draws: Draw
) -> tuple[jax.Array, Outcome]:
    """The variants' losses summed (their gradients do not meet), with what they are made of.

    trainable: in place of the state's own, to be differentiated by; pieces: each variant's (b, height, frames, c).
    """
    model = fleet.model_of(state._replace(trainable=trainable))
    embeddings, of_backbones = _embeddings(spec, model, pieces)
    cosines = _cosines(spec, model, embeddings)
    labels = _labels(spec, draws)
    scales = _scales(spec, model.statistics, cosines, labels)
    statistics = _with_scales(spec, of_backbones, scales)
    losses = jax.vmap(functools.partial(heads.mixup_loss, heads.head_of(spec.head)))(cosines, labels, scales)
    loss = jnp.mean(losses, axis=1)
    accuracy = jnp.mean(jnp.argmax(heads.nearest(cosines), axis=-1) == draws.class_a, axis=1)
    return jnp.sum(loss), Outcome(loss, accuracy, statistics)


def _embeddings(
    spec: FleetSpec, model: Model, pieces: Sequence[jax.Array]
) -> tuple[list[jax.Array], dict[str, Arrays]]:
    """Each variant's embeddings (b, d), and the statistics of its backbone as the batch leaves them."""
    embeddings, statistics = [], {}
    for variant, x in zip(spec.variants, pieces, strict=True):
        embedding, statistics[variant] = variants.forward(fleet.backbone(spec, model, variant), x)
        embeddings.append(embedding)
    return embeddings, statistics


def _cosines(spec: FleetSpec, model: Model, embeddings: Sequence[jax.Array]) -> jax.Array:
    """Cosines of all variants' embeddings to their centres, in one vmapped call: (v, b, k, sub-centres)."""
    centres = jnp.stack([model.parameters[variant][CENTRES] for variant in spec.variants])
    of_variant = functools.partial(heads.cosines, subcentres=spec.head.subcentres)
    return jax.vmap(of_variant)(jnp.stack(embeddings), centres)


def _labels(spec: FleetSpec, draws: Draw) -> Labels:
    """Of every row, (v, b): both clips' classes by weight, or the heavier's alone."""
    # clip a is always the heavier, as weights stay below a half
    weight = draws.weight if spec.labels == "soft" else jnp.zeros_like(draws.weight)
    return Labels(draws.class_a, draws.class_b, weight)


def scales_of(spec: FleetSpec, statistics: dict[str, Arrays]) -> jax.Array:
    """The head's scale of every variant, (v,)."""
    first = jnp.float32(heads.head_of(spec.head).first_scale)
    return jnp.stack([statistics[variant].get(SCALE, first) for variant in spec.variants])


def _scales(spec: FleetSpec, statistics: dict[str, Arrays], cosines: jax.Array, labels: Labels) -> jax.Array:
    """This step's scales (v,): where the head is frozen, or its scale fixed, those of the step before."""
    before = scales_of(spec, statistics)
    rescaled = heads.head_of(spec.head).rescaled
    if rescaled is None or "arcface" in spec.frozen:
        return before
    return jax.vmap(rescaled)(jax.lax.stop_gradient(cosines), labels, before)


def _with_scales(spec: FleetSpec, statistics: dict[str, Arrays], scales: jax.Array) -> dict[str, Arrays]:
    """The backbones' statistics and the scales (v,), where the head adapts them."""
    if heads.head_of(spec.head).rescaled is None:
        return statistics
    return {v: statistics[v] | {SCALE: scale} for v, scale in zip(spec.variants, scales, strict=True)}
