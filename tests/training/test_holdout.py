"""Held-out clips judged as by numpy in float64 from their embeddings."""

from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SHALLOW
from scipy.special import log_softmax

from asdjax.config.fields import default_config
from asdjax.data.clips import Clip, Corpus
from asdjax.data.tasks import make_tasks
from asdjax.fleet import fleet_model
from asdjax.fleet.embed import embed_clips
from asdjax.training import optimizer
from asdjax.training.holdout import score_held_out
from asdjax.training.state import make_train_spec

pytestmark = pytest.mark.usefixtures("shallow")

VARIANT = "resnet50_512"


@pytest.mark.parametrize("loss", ["arcface", "subcluster_adacos"])
def test_loss_and_accuracy_over_all_pieces(loss: str):
    config = default_config()
    config.variants, config.width, config.train.batch_size = (VARIANT,), SHALLOW, 4
    config.loss, config.arcface.subcentres = loss, 2
    spec = make_train_spec(config, 2, optimizer.TRAINABLE["last_block"], 1)
    model = fleet_model.init_model(spec.model, 0, "fan")
    clips = [Clip(Path(f"{i}.wav"), "fan", f"0{i % 2}", "train", "source", "normal", ()) for i in range(3)]
    (task,) = make_tasks(Corpus("manifest", tuple(clips)), "section")
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 2000, n).astype(np.int16) for n in (40_000, 16_000, 32_000)]
    of_loss, of_accuracy = score_held_out(spec, model, task, samples, device=jax.devices()[0])

    embedded = embed_clips(spec.model, model, samples, stride_frames=32, batch_size=4, what="")
    target = np.array([0, 1, 0])[embedded.clip]
    assert len(target) == 4
    centres = np.asarray(model.parameters[VARIANT][fleet_model.CENTRES], np.float64)
    cosine = embedded.vectors[VARIANT] @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    by_class = cosine.reshape(-1, 2, 2)
    assert of_accuracy[VARIANT] == pytest.approx(np.mean(by_class.max(axis=2).argmax(axis=1) == target))
    rows = np.arange(len(target))
    if loss == "arcface":
        logits = by_class.max(axis=2)
        logits[rows, target] = np.cos(np.arccos(logits[rows, target]) + 0.05)
        expected = -log_softmax(30 * logits, axis=1)[rows, target]
    else:
        shares = np.exp(log_softmax(np.sqrt(2) * np.log(3) * cosine, axis=1)).reshape(-1, 2, 2).sum(axis=2)
        expected = -np.log(shares[rows, target])
    assert of_loss[VARIANT] == pytest.approx(expected.mean(), rel=1e-4)
