"""SGD, and which parameters it moves: freeze rules that must cover every parameter."""

import optax

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


def sgd(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """Stochastic gradient descent; no velocity is kept where momentum is 0."""
    return optax.sgd(learning_rate, momentum or None)
