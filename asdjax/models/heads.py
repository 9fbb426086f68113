"""Heads: what makes a loss of embeddings and class centres, behind one interface. All in float32.

Letters: b batch, d embedding, k classes, c sub-centres of a class, v variants. Angles and margins are radians.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from asdjax.errors import InputError
from asdjax.models import adacos, arcface

_NORM_SQUARED_FLOOR = 1e-12


class HeadSpec(NamedTuple):
    """All that a head depends on. Hashable."""

    name: str
    classes: int
    subcentres: int
    margin_radians: float
    scale: float

    @property
    def centres(self) -> int:
        """How many class centres there are in all."""
        return self.classes * self.subcentres


class Labels(NamedTuple):
    """What each row of a batch is labelled with, all (b,): (1 - weight) of class a, weight of class b."""

    a: jax.Array
    b: jax.Array
    weight: jax.Array


class Head(NamedTuple):
    """A loss, and its scale.

    loss: (cosines (b, k, c), targets (b,), scale ()) -> (b,). rescaled: (cosines (b, k, c), labels, the scale of the
    step before ()) -> this step's scale (); None where it stays `first_scale`.
    """

    first_scale: float
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    rescaled: Callable[[jax.Array, Labels, jax.Array], jax.Array] | None = None


def make_head(spec: HeadSpec) -> Head:
    """The head by its name.

    Raises InputError where AdaCos would scale by nothing: it takes sqrt(2) log(centres - 1).
    """
    counted = spec.centres if spec.name == "subcluster_adacos" else spec.classes
    if spec.name != "arcface" and counted < 3:
        raise InputError(
            f"config.loss: {spec.name} needs three class centres or more, there are {counted}; take arcface, or "
            "subcluster_adacos with config.arcface.subcentres=2"
        )
    return HEADS[spec.name](spec)


def _arcface(spec: HeadSpec) -> Head:
    def loss(cosine: jax.Array, target: jax.Array, scale: jax.Array) -> jax.Array:
        return arcface.loss(nearest(cosine), target, margin_radians=spec.margin_radians, scale=scale)

    return Head(spec.scale, loss)


def _adacos_fixed(spec: HeadSpec) -> Head:
    def loss(cosine: jax.Array, target: jax.Array, scale: jax.Array) -> jax.Array:
        return adacos.loss(nearest(cosine)[..., None], target, scale)

    return Head(adacos.fixed_scale(spec.classes), loss)


def _adacos(spec: HeadSpec) -> Head:
    def rescaled(cosine: jax.Array, labels: Labels, before: jax.Array) -> jax.Array:
        of_classes = nearest(cosine)
        others = labels.a[:, None] != jnp.arange(spec.classes)[None]
        return adacos.dynamic_scale(of_classes, others, _mixed_angle(of_classes, labels), before)

    return _adacos_fixed(spec)._replace(rescaled=rescaled)


def _subcluster_adacos(spec: HeadSpec) -> Head:
    def rescaled(cosine: jax.Array, labels: Labels, before: jax.Array) -> jax.Array:
        every = cosine.reshape(len(cosine), spec.centres)
        return adacos.dynamic_scale(every, jnp.ones_like(every, bool), _mixed_angle(nearest(cosine), labels), before)

    return Head(adacos.fixed_scale(spec.centres), adacos.loss, rescaled)


HEADS: dict[str, Callable[[HeadSpec], Head]] = {
    "arcface": _arcface,
    "adacos_fixed": _adacos_fixed,
    "adacos": _adacos,
    "subcluster_adacos": _subcluster_adacos,
}


def mixup_loss(head: Head, cosine: jax.Array, labels: Labels, scale: jax.Array) -> jax.Array:
    """(1 - w) * loss to a + w * loss to b, where a margin is on its own target: (b, k, c) -> (b,)."""
    to_a, to_b = (head.loss(cosine, target, scale) for target in (labels.a, labels.b))
    return (1 - labels.weight) * to_a + labels.weight * to_b


def normalise(vectors: jax.Array) -> jax.Array:
    """Rows of unit length, (..., d) -> (..., d); a zero row stays zero."""
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, _NORM_SQUARED_FLOOR))


def cosines(embeddings: jax.Array, weights: jax.Array, subcentres: int = 1) -> jax.Array:
    """Cosine of each embedding to each centre, (b, d), (k * c, d) -> (b, k, c), in float32."""
    embeddings, weights = normalise(embeddings), normalise(weights)
    every = jnp.matmul(embeddings, weights.T, precision=jax.lax.Precision.HIGHEST)
    return every.reshape(len(embeddings), -1, subcentres)


def nearest(cosine: jax.Array) -> jax.Array:
    """A class is as near as its nearest sub-centre (Deng et al. 2020): (b, k, c) -> (b, k)."""
    return jnp.max(cosine, axis=-1)


def _mixed_angle(cosine: jax.Array, labels: Labels) -> jax.Array:
    """Angle to class a and class b by weight, (b, k) -> (b,) radians: how AdaCos takes a mixup's angle is OPEN."""
    of_a, of_b = (jnp.take_along_axis(cosine, target[:, None], axis=1)[:, 0] for target in (labels.a, labels.b))
    angle_a, angle_b = (jnp.arccos(jnp.clip(c, -1.0, 1.0)) for c in (of_a, of_b))
    return (1 - labels.weight) * angle_a + labels.weight * angle_b
