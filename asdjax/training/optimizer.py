"""SGD, its learning rates, and the parameters it moves: rules that must cover every parameter."""

from collections import Counter
from typing import NamedTuple

import jax
import numpy as np
import optax

from asdjax.config.training_fields import OptimizerFields
from asdjax.models.variants import PARAMETER_GROUPS, Arrays

#: Parameter groups that each fine-tuning strategy trains (report 2.4). `backbone` and `arcface` are named by what they
#: freeze, `last_block` by where training begins. In `backbone` the embedding layer trains (OPEN: if it were frozen too,
#: no score could change).
TRAINABLE = {
    "full": ("early", "late", "embedding", "arcface"),
    "last_block": ("late", "embedding", "arcface"),
    "backbone": ("embedding", "arcface"),
    "arcface": ("early", "late", "embedding"),
}

#: Weight decay by the last word of a parameter's path: none for normalisations, PReLUs and biases.
DECAYS = {"kernel": True, "weights": True, "bias": False, "scale": False, "slope": False}


def partition(parameters: Arrays, trainable: tuple[str, ...]) -> tuple[Arrays, Arrays]:
    """Return the parameters that train and those that do not.

    Raises ValueError for a parameter of no known group, which a rule would otherwise freeze unnoticed.
    """
    uncovered = [path for path in parameters if path.split("/")[0] not in PARAMETER_GROUPS]
    if uncovered:
        raise ValueError(
            f"no freeze rule covers {', '.join(uncovered)}: expected a path that begins with {PARAMETER_GROUPS}"
        )
    moving = {path: leaf for path, leaf in parameters.items() if path.split("/")[0] in trainable}
    return moving, {path: leaf for path, leaf in parameters.items() if path not in moving}


class Sgd(NamedTuple):
    """Settings of stochastic gradient descent besides the learning rate. 0 turns one off."""

    momentum: float
    weight_decay: float
    clip_norm: float


def update(
    sgd: Sgd, gradients: Arrays, velocity: optax.OptState, parameters: Arrays, learning_rate: jax.Array
) -> tuple[Arrays, optax.OptState]:
    """Return one variant's parameters and velocity after a step of SGD."""
    steps, velocity = make_optimizer(sgd).update(gradients, velocity, parameters)
    scaled = jax.tree.map(lambda step: -learning_rate * step, steps)
    return optax.apply_updates(parameters, scaled), velocity  # pyright: ignore[reportReturnType]


def make_optimizer(sgd: Sgd) -> optax.GradientTransformation:
    """Return SGD without its learning rate: clip by a variant's gradient norm, then decay, then momentum.

    The order is that of torch.optim.SGD after clip_grad_norm_.
    """
    parts = []
    if sgd.clip_norm:
        parts.append(optax.clip_by_global_norm(sgd.clip_norm))
    if sgd.weight_decay:
        parts.append(optax.add_decayed_weights(sgd.weight_decay, mask=select_decayed))
    parts.append(optax.trace(sgd.momentum) if sgd.momentum else optax.identity())
    return optax.chain(*parts)


def select_decayed(parameters: Arrays) -> dict[str, bool]:
    """Return which parameters weight decay shrinks.

    Raises ValueError for a parameter that DECAYS does not cover.
    """
    uncovered = [path for path in parameters if path.rsplit("/", 1)[-1] not in DECAYS]
    if uncovered:
        raise ValueError(
            f"no weight decay rule covers {', '.join(uncovered)}: expected a path that ends in {(*DECAYS,)}"
        )
    return {path: DECAYS[path.rsplit("/", 1)[-1]] for path in parameters}


def compute_learning_rates(settings: OptimizerFields, peak: float, steps: int) -> np.ndarray:
    """Return the learning rate of each step of a phase, (steps,) float32; `settings` is config.optimizer.

    The rate climbs to `peak` in equal parts over the first `warmup_steps`, none of them 0. Then it stays, falls along
    half a cosine to 0 at the end, or falls by `step_factor` at each of the shares `step_at` of the phase.
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
