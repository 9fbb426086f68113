"""How well a fleet tells apart normal clips that it never trained on: a signal that needs no label."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from asdjax.data.tasks import Task
from asdjax.fleet.embed import embed_clips
from asdjax.fleet.fleet_model import CENTRES, FleetSpec, Model
from asdjax.models import heads
from asdjax.training import objective, optimizer


def score_held_out(
    spec: FleetSpec, model: Model, task: Task, samples: Sequence[np.ndarray], device: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Loss and accuracy of each variant on one device, over all pieces of held-out clips, none of them mixed.

    Normalised with the running averages. The classes are the task's, of sections as in training.
    """
    spec = spec._replace(trainable=optimizer.GROUPS, steps_per_dispatch=1)  # one program for all phases
    embedded = embed_clips(
        spec,
        model,
        samples,
        stride_frames=spec.spectrogram.piece_frames,
        batch_size=spec.batch_size,
        what=f"{task.name} held out",
        quiet=True,
        device=device,
    )
    target = jnp.asarray(np.asarray(task.class_of_clip, np.int32)[embedded.clip])
    head = heads.make_head(spec.head)
    loss, accuracy = {}, {}
    for variant in spec.variants:
        scale = objective.scale_of(spec, model.statistics[variant])
        centres = model.parameters[variant][CENTRES]
        cosine = heads.cosines(jnp.asarray(embedded.vectors[variant]), jnp.asarray(centres), spec.head.subcentres)
        loss[variant] = float(jnp.mean(head.loss(cosine, target, scale)))
        accuracy[variant] = float(jnp.mean(jnp.argmax(heads.nearest(cosine), axis=-1) == target))
    return loss, accuracy
