"""What a step minimises for one variant: the mixup loss that a head makes of its embeddings.

A head of its own for each variant, where one over all of them stacked would be the same numbers: so one variant's
backward pass can end, and free its memory, before the next one's forward pass begins.

Letters: b batch, k classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from asdjax.fleet import fleet_model
from asdjax.fleet.fleet_model import CENTRES, SCALE, FleetSpec, FleetState, Model
from asdjax.models import heads, variants
from asdjax.models.heads import Labels
from asdjax.models.variants import Arrays
from asdjax.training.sampler import Batch


class LossAux(NamedTuple):
    """Of a variant's batch: mixup loss (); share of rows whose nearest centre is the heavier clip's class (); the
    variant's statistics as the batch leaves them."""

    loss: jax.Array
    accuracy: jax.Array
    statistics: Arrays


def objective(
    spec: FleetSpec, variant: str, trainable: Arrays, state: FleetState, pieces: jax.Array, draw: Batch
) -> tuple[jax.Array, LossAux]:
    """The variant's loss, with what else comes of it.

    trainable: in place of the state's own, to be differentiated by; pieces: (b, height, frames, c).
    """
    model = Model({variant: trainable | state.frozen[variant]}, state.statistics)
    embedding, statistics = variants.forward(fleet_model.backbone(spec, model, variant), pieces)
    cosine = heads.cosines(embedding, model.parameters[variant][CENTRES], spec.head.subcentres)
    labels = _labels(spec, draw)
    scale = _scale(spec, model.statistics[variant], cosine, labels)
    if SCALE in model.statistics[variant]:
        statistics = statistics | {SCALE: scale}
    loss = jnp.mean(heads.mixup_loss(heads.make_head(spec.head), cosine, labels, scale))
    accuracy = jnp.mean(jnp.argmax(heads.nearest(cosine), axis=-1) == draw.class_a)
    return loss, LossAux(loss, accuracy, statistics)


def _labels(spec: FleetSpec, draw: Batch) -> Labels:
    """Of every row, (b,): both clips' classes by weight, or the heavier's alone."""
    # clip a is always the heavier, as weights stay below a half
    weight = draw.weight if spec.labels == "soft" else jnp.zeros_like(draw.weight)
    return Labels(draw.class_a, draw.class_b, weight)


def scale_of(spec: FleetSpec, statistics: Arrays) -> jax.Array:
    """The scale () of a variant's head."""
    return statistics.get(SCALE, jnp.float32(heads.make_head(spec.head).first_scale))


def _scale(spec: FleetSpec, statistics: Arrays, cosine: jax.Array, labels: Labels) -> jax.Array:
    """This step's scale (): where the head is frozen, or its scale fixed, that of the step before."""
    before = scale_of(spec, statistics)
    rescaled = heads.make_head(spec.head).rescaled
    if rescaled is None or "arcface" in spec.frozen:
        return before
    return rescaled(jax.lax.stop_gradient(cosine), labels, before)
