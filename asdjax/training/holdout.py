"""Loss and accuracy of held-out normal clips: a measure of a fleet that needs no label."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.data.tasks import Task
from asdjax.fleet.embed import embed_clips
from asdjax.fleet.fleet_model import CENTRES, Model, get_scale
from asdjax.models import heads
from asdjax.training.state import TrainSpec


def score_held_out(
    spec: TrainSpec, model: Model, task: Task, samples: Sequence[np.ndarray], device: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the loss and accuracy of each variant over all pieces of held-out clips, unmixed, on one device.

    Running averages normalise. The classes are those of the task, as in training.
    """
    with jax.default_device(device):
        embedded = embed_clips(
            spec.model,
            model,
            samples,
            stride_frames=spec.model.spectrogram.piece_frames,
            batch_size=spec.batch_size,
            what=f"{task.name} held out",
            quiet=True,
        )
    classes = jnp.asarray(np.asarray(task.class_of_clip, np.int32)[embedded.clip])
    unmixed = heads.Labels(classes, classes, jnp.zeros(len(classes)))
    loss, accuracy = {}, {}
    for variant in spec.variants:
        scored = heads.head_loss(
            spec.model.head,
            jnp.asarray(embedded.vectors[variant]),
            jnp.asarray(model.parameters[variant][CENTRES]),
            unmixed,
            get_scale(spec.model, model.statistics[variant]),
            frozen=True,
        )
        loss[variant], accuracy[variant] = float(scored.loss), float(scored.accuracy)
    return loss, accuracy
