"""SGD, its learning rates, and which parameters it moves: rules that must cover every parameter."""

from collections import Counter
from typing import NamedTuple

import jax
import numpy as np
import optax

from asdjax.config.training_fields import OptimizerFields
from asdjax.models.variants import Arrays

GROUPS = ("early", "late", "embedding", "arcface")
"""The first word of every parameter's path. `late` begins at the backbone's last residual sum, `embedding` is its
embedding layer, `arcface` the class centres."""

TRAINABLE = {
    "full": ("early", "late", "embedding", "arcface"),
    "last_block": ("late", "embedding", "arcface"),
    "backbone": ("embedding", "arcface"),
    "arcface": ("early", "late", "embedding"),
}
"""The groups that each fine-tuning strategy trains (report 2.4). In `backbone` the embedding layer trains (OPEN:
were it frozen too, no score could change)."""


def partition(parameters: Arrays, trainable: tuple[str, ...]) -> tuple[Arrays, Arrays]:
    """Parameters that train and parameters that do not.

    Raises ValueError for a parameter of no known group: a rule that overlooks one would freeze it unseen.
    """
    uncovered = [path for path in parameters if path.split("/")[0] not in GROUPS]
    if uncovered:
        raise ValueError(f"no freeze rule covers {', '.join(uncovered)}: expected a path that begins with {GROUPS}")
    moving = {path: leaf for path, leaf in parameters.items() if path.split("/")[0] in trainable}
    return moving, {path: leaf for path, leaf in parameters.items() if path not in moving}


DECAYS = {"kernel": True, "weights": True, "bias": False, "scale": False, "slope": False}
"""Whether weight decay shrinks a parameter, by the last word of its path: never what belongs to a normalisation or
a PReLU, nor a bias."""


class Sgd(NamedTuple):
    """What stochastic gradient descent depends on besides the learning rate. 0: without."""

    momentum: float
    weight_decay: float
    clip_norm: float


def descend(
    sgd: Sgd, gradients: Arrays, velocity: optax.OptState, parameters: Arrays, rate: jax.Array
) -> tuple[Arrays, optax.OptState]:
    """One variant's parameters and velocity after a step of length `rate`."""
    steps, velocity = make_optimizer(sgd).update(gradients, velocity, parameters)
    return optax.apply_updates(parameters, jax.tree.map(lambda step: -rate * step, steps)), velocity  # pyright: ignore


def make_optimizer(sgd: Sgd) -> optax.GradientTransformation:
    """Clipped by the norm over all of a variant's gradients, then decayed, then gathered into a velocity: the order
    of torch.optim.SGD after clip_grad_norm_."""
    parts = []
    if sgd.clip_norm:
        parts.append(optax.clip_by_global_norm(sgd.clip_norm))
    if sgd.weight_decay:
        parts.append(optax.add_decayed_weights(sgd.weight_decay, mask=decayed))
    parts.append(optax.trace(sgd.momentum) if sgd.momentum else optax.identity())
    return optax.chain(*parts)


def decayed(parameters: Arrays) -> dict[str, bool]:
    """Which parameters weight decay shrinks.

    Raises ValueError for one that DECAYS does not cover.
    """
    uncovered = [path for path in parameters if path.rsplit("/", 1)[-1] not in DECAYS]
    if uncovered:
        raise ValueError(
            f"no weight decay rule covers {', '.join(uncovered)}: expected a path that ends in {(*DECAYS,)}"
        )
    return {path: DECAYS[path.rsplit("/", 1)[-1]] for path in parameters}


def learning_rates(settings: OptimizerFields, peak: float, steps: int) -> np.ndarray:
    """The learning rate of each step of a phase, (steps,) float32; settings: config.optimizer.

    It climbs to `peak` in equal parts over the first `warmup_steps`, none of them 0, then stays, or falls along half a
    cosine to 0 at the phase's end, or by `step_factor` at each of the shares `step_at` of the phase.
    """
    step, warmup = np.arange(steps), settings.warmup_steps
    falls = Counter(round(share * steps) for share in settings.step_at)
    falling = {
        "constant": lambda: 1.0,
        "cosine": lambda: optax.cosine_decay_schedule(1.0, max(1, steps - warmup))(np.maximum(step - warmup, 0)),
        "step": lambda: optax.piecewise_constant_schedule(
            1.0, {at: settings.step_factor**number for at, number in falls.items()}
        )(step),
    }[settings.schedule]()
    return np.asarray(peak * np.minimum((step + 1) / (warmup + 1), 1) * falling, np.float32)
