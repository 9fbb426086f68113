"""Heads: losses of embeddings and class centres, behind one interface. All in float32.

Letters: b batch, d embedding, k classes, c sub-centres of a class. Angles and margins are radians. `head_loss` is of
one variant; a training step maps it over the variants of a group with `jax.vmap`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from asdjax.errors import InputError
from asdjax.models import adacos, arcface

_NORM_SQUARED_FLOOR = 1e-12


class HeadSpec(NamedTuple):
    """Settings that a head depends on. Hashable."""

    name: str
    classes: int
    subcentres: int
    margin_radians: float
    scale: float

    @property
    def centres(self) -> int:
        """Return the number of class centres."""
        return self.classes * self.subcentres


class Labels(NamedTuple):
    """Labels of a batch, all (b,): (1 - weight) of class a, weight of class b."""

    a: jax.Array
    b: jax.Array
    weight: jax.Array


class Head(NamedTuple):
    """A loss and the rule of its scale.

    loss: (cosines (b, k, c), targets (b,), scale ()) -> (b,). rescale: (cosines (b, k, c), labels, scale of the
    previous step ()) -> scale of this step (); None if the scale stays at `first_scale`.
    """

    first_scale: float
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    rescale: Callable[[jax.Array, Labels, jax.Array], jax.Array] | None = None


class HeadLoss(NamedTuple):
    """Results of a head for one batch, all (): mean mixup loss, accuracy, and the scale that was used.

    Accuracy is the share of pieces whose nearest centre belongs to class a.
    """

    loss: jax.Array
    accuracy: jax.Array
    scale: jax.Array


def head_loss(
    spec: HeadSpec, embeddings: jax.Array, centres: jax.Array, labels: Labels, scale: jax.Array, *, frozen: bool
) -> HeadLoss:
    """Return the loss of one variant's embeddings (b, d) with its class centres (k * c, d).

    `scale` () is that of the previous step; a `frozen` head keeps it.
    """
    head = make_head(spec)
    cosine = cosines(embeddings, centres, spec.subcentres)
    if head.rescale and not frozen:
        scale = head.rescale(jax.lax.stop_gradient(cosine), labels, scale)
    loss = jnp.mean(mixup_loss(head, cosine, labels, scale))
    accuracy = jnp.mean(jnp.argmax(nearest(cosine), axis=-1) == labels.a)
    return HeadLoss(loss, accuracy, scale)


def make_head(spec: HeadSpec) -> Head:
    """Return the head with the name in `spec`.

    Raises InputError for AdaCos with fewer than three centres: its scale is sqrt(2) log(centres - 1).
    """
    counted = spec.centres if spec.name == "subcluster_adacos" else spec.classes
    if spec.name != "arcface" and counted < 3:
        raise InputError(
            f"config.loss: expected three class centres or more for {spec.name}, got {counted}; set it to arcface, or "
            "to subcluster_adacos with config.arcface.subcentres=2"
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
    def rescale(cosine: jax.Array, labels: Labels, before: jax.Array) -> jax.Array:
        by_class = nearest(cosine)
        others = labels.a[:, None] != jnp.arange(spec.classes)[None]
        return adacos.dynamic_scale(by_class, others, _mixed_angle(by_class, labels), before)

    return _adacos_fixed(spec)._replace(rescale=rescale)


def _subcluster_adacos(spec: HeadSpec) -> Head:
    def rescale(cosine: jax.Array, labels: Labels, before: jax.Array) -> jax.Array:
        every = cosine.reshape(len(cosine), spec.centres)
        return adacos.dynamic_scale(every, jnp.ones_like(every, bool), _mixed_angle(nearest(cosine), labels), before)

    return Head(adacos.fixed_scale(spec.centres), adacos.loss, rescale)


HEADS: dict[str, Callable[[HeadSpec], Head]] = {
    "arcface": _arcface,
    "adacos_fixed": _adacos_fixed,
    "adacos": _adacos,
    "subcluster_adacos": _subcluster_adacos,
}


def mixup_loss(head: Head, cosine: jax.Array, labels: Labels, scale: jax.Array) -> jax.Array:
    """Return (1 - w) * loss to a + w * loss to b, each with the margin on its own target: (b, k, c) -> (b,)."""
    to_a, to_b = (head.loss(cosine, target, scale) for target in (labels.a, labels.b))
    return (1 - labels.weight) * to_a + labels.weight * to_b


def normalise(vectors: jax.Array) -> jax.Array:
    """Return rows of unit length, (..., d) -> (..., d). A zero row stays zero."""
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, _NORM_SQUARED_FLOOR))


def cosines(embeddings: jax.Array, weights: jax.Array, subcentres: int = 1) -> jax.Array:
    """Return the cosine of each embedding to each centre, (b, d), (k * c, d) -> (b, k, c), in float32."""
    embeddings, weights = normalise(embeddings), normalise(weights)
    every = jnp.matmul(embeddings, weights.T, precision=jax.lax.Precision.HIGHEST)
    return every.reshape(len(embeddings), -1, subcentres)


def nearest(cosine: jax.Array) -> jax.Array:
    """Return each class's cosine, that of its nearest sub-centre (Deng et al. 2020): (b, k, c) -> (b, k)."""
    return jnp.max(cosine, axis=-1)


def _mixed_angle(cosine: jax.Array, labels: Labels) -> jax.Array:
    """Return the weighted mean of the angles to class a and class b, (b, k) -> (b,) radians. OPEN for mixup."""
    to_a, to_b = (jnp.take_along_axis(cosine, target[:, None], axis=1)[:, 0] for target in (labels.a, labels.b))
    angle_a, angle_b = (jnp.arccos(jnp.clip(c, -1.0, 1.0)) for c in (to_a, to_b))
    return (1 - labels.weight) * angle_a + labels.weight * angle_b
