"""Embeddings of clips: the right pieces, each as librosa and the backbone alone would have it."""

from collections.abc import Iterator

import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from conftest import SHALLOW, shallow_networks

from asdjax.config.fields import default_config
from asdjax.fleet import fleet_model
from asdjax.fleet.embed import Embeddings, embed_clips, list_piece_starts
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.models import variants

pytestmark = pytest.mark.usefixtures("_shallow")

NAMES = ("resnet50_512", "resnet50_1024")
PIECE = 32


@pytest.fixture(scope="module")
def _shallow() -> Iterator[None]:
    with shallow_networks():
        yield


@pytest.fixture(scope="module")
def spec(_shallow: None) -> ModelSpec:
    config = default_config()
    config.variants = NAMES
    config.width = SHALLOW
    return fleet_model.make_spec(config, 2)


@pytest.fixture(scope="module")
def model(spec: ModelSpec) -> Model:
    return fleet_model.init_model(spec, 0, "fan")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """10 s, 2 s and 1.2 s."""
    rng = np.random.default_rng(0)
    return [rng.normal(0, 2000, samples).astype(np.int16) for samples in (160_000, 32_000, 19_200)]


@pytest.fixture(scope="module")
def embedded(spec: ModelSpec, model: Model, clips: list[np.ndarray]) -> Embeddings:
    return embed_clips(spec, model, clips, stride_frames=PIECE, batch_size=8, what="all")


def test_a_clip_of_ten_seconds_has_nine_pieces(spec: ModelSpec, embedded: Embeddings):
    assert list(list_piece_starts(160_000, spec.spectrogram, 32)) == [0, 32, 64, 96, 128, 160, 192, 224, 256]
    assert list(list_piece_starts(160_000, spec.spectrogram, 100)) == [0, 100, 200]
    assert list(list_piece_starts(100, spec.spectrogram, 32)) == [0]
    np.testing.assert_array_equal(embedded.clip, [0] * 9 + [1] + [2])
    assert {variant: rows.shape for variant, rows in embedded.vectors.items()} == dict.fromkeys(NAMES, (11, 128))


@pytest.mark.parametrize("row", [0, 4, 8, 9, 10])
def test_a_piece_is_embedded_as_by_librosa_and_the_backbone(
    row: int, spec: ModelSpec, model: Model, clips: list[np.ndarray], embedded: Embeddings
):
    """The first piece of a clip and its last included; batch padding of the second batch of three too."""
    clip = clips[embedded.clip[row]].astype(np.float64) / 32768
    stft = librosa.stft(clip, n_fft=2046, hop_length=512, window="hann", center=True, pad_mode="constant")
    frame = 32 * (row if row < 9 else 0)
    magnitude = np.abs(stft[:, frame : frame + PIECE])
    for name in NAMES:
        height = variants.piece_height(name)
        value = np.log(np.maximum(magnitude.reshape(height, -1, PIECE).mean(axis=1), 1e-6))
        piece = ((value - value.mean()) / value.std())[None, :, :, None]
        expected = np.asarray(
            variants.embed(fleet_model.make_backbone(spec, model, name), jnp.asarray(piece, jnp.float32))
        )[0]
        unit = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(embedded.vectors[name][row], unit, atol=2e-4)


def test_embeddings_have_unit_length(embedded: Embeddings):
    for rows in embedded.vectors.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_what_else_is_in_a_batch_leaves_no_trace(
    spec: ModelSpec, model: Model, clips: list[np.ndarray], embedded: Embeddings
):
    alone = embed_clips(spec, model, clips[2:], stride_frames=PIECE, batch_size=8, what="one")
    for name in NAMES:
        np.testing.assert_allclose(alone.vectors[name][0], embedded.vectors[name][10], atol=1e-6)
