"""The six variants: published sizes, shapes of the report's Table 1, and which statistics a step updates."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asdjax.models import initialise, layers, variants
from asdjax.models.efficientnet import EfficientNetB0
from asdjax.models.mobilefacenet import MobileFaceNet
from asdjax.models.resnet import ResNet50
from asdjax.models.variants import VARIANTS, Backbone

WIDTH = 0.125


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("mobilefacenet_1024", 993_280),
        ("mobilefacenet_512", 985_088),
        ("resnet50_1024", 23_764_032),
        ("resnet50_512", 23_764_032),
        ("efficientnet_b0_1024", 4_170_940),
        ("efficientnet_b0_512", 4_170_940),
    ],
)
def test_parameters_at_full_width_are_as_many_as_published(variant: str, parameters: int) -> None:
    backbone = variants.declare(variant, frames=32)
    assert sum(math.prod(leaf.shape) for leaf in backbone.parameters.values()) == parameters


def shapes_inside(architecture: Any, height: int) -> list[tuple[int, ...]]:
    """Return the shape after each block of a full-size backbone, without the batch axis and without computing."""

    def run(x: jax.Array) -> list[jax.Array]:
        model = architecture(height, 32, dtype=jnp.float32)
        maps = [x]
        for group in (model.early, model.late, model.embedding):
            for block in getattr(group, "layers", [group]):
                maps.append(block(maps[-1]))
        return maps[1:]

    return [leaf.shape[1:] for leaf in jax.eval_shape(run, jax.ShapeDtypeStruct((2, height, 32, 1), jnp.float32))]


@pytest.mark.parametrize("height", [1024, 512])
def test_mobilefacenet_s_maps_have_the_sizes_of_the_report_s_table_1(height: int) -> None:
    h = height
    assert shapes_inside(MobileFaceNet, height) == [
        *[(h // 2, 16, 64)] * 2,  # conv 3x3, depthwise conv 3x3
        *[(h // 4, 8, 64)] * 5,
        (h // 8, 4, 128),
        *[(h // 16, 2, 128)] * 6,
        (h // 32, 1, 128),
        *[(h // 32, 1, 128)] * 2,
        (h // 32, 1, 512),  # conv 1x1
        (512,),  # linear GDConv
        (128,),  # linear conv 1x1
    ]


def test_resnet50_has_stages_of_3_4_6_and_3_blocks() -> None:
    assert shapes_inside(ResNet50, 1024) == [
        (256, 8, 64),
        *[(256, 8, 256)] * 3,
        *[(128, 4, 512)] * 4,
        *[(64, 2, 1024)] * 6,
        *[(32, 1, 2048)] * 3,
        (2048,),
        (128,),
    ]


def test_efficientnet_b0_has_the_stages_of_its_paper() -> None:
    assert shapes_inside(EfficientNetB0, 1024) == [
        (512, 16, 32),
        (512, 16, 16),
        *[(256, 8, 24)] * 2,
        *[(128, 4, 40)] * 2,
        *[(64, 2, 80)] * 3,
        *[(64, 2, 112)] * 3,
        *[(32, 1, 192)] * 4,
        (32, 1, 320),
        (32, 1, 1280),
        (1280,),
        (128,),
    ]


@pytest.mark.parametrize(
    "variant", [VARIANTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS[1:])]
)
def test_every_variant_embeds_at_any_width_from_any_channels_in_either_precision(variant: str) -> None:
    stacked = variant.endswith("512")
    width, c_in, dtype = (0.3, 2, "bfloat16") if stacked else (2.0, 1, "float32")
    backbone = variants.declare(variant, frames=32, c_in=c_in, width=width, dtype=dtype)
    pieces = jax.ShapeDtypeStruct((3, variants.piece_height(variant), 32, c_in), dtype)
    embeddings, statistics = jax.eval_shape(
        lambda *arrays: variants.forward(Backbone(backbone.graph, *arrays[:2]), arrays[2]),
        *(backbone.parameters, backbone.statistics, pieces),
    )
    assert (embeddings.shape, embeddings.dtype) == ((3, 128), jnp.float32)
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in statistics.items()} == {
        path: (leaf.shape, jnp.float32) for path, leaf in backbone.statistics.items()
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(how: Any, graph: Any, parameters: Any, statistics: Any, pieces: jax.Array) -> Any:
    return how(Backbone(graph, parameters, statistics), pieces)


forward = functools.partial(_compiled, variants.forward)
embed = functools.partial(_compiled, variants.embed)


def small(name: str, *, frozen: tuple[str, ...] = ()) -> Backbone:
    backbone = variants.declare(f"{name}_512", frames=32, width=WIDTH, running=variants.RunningAverages(frozen=frozen))
    parameters, statistics = (initialise.fill(arrays, 0) for arrays in (backbone.parameters, backbone.statistics))
    return Backbone(backbone.graph, parameters, statistics)


def noise(name: str, seed: int = 0) -> jax.Array:
    height = 512 if name == "mobilefacenet" else 64  # the others accept any height
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, height, 32, 1)), jnp.float32)


@pytest.mark.parametrize("name", [pytest.param("efficientnet_b0", marks=pytest.mark.slow), "mobilefacenet", "resnet50"])
def test_a_frozen_group_s_statistics_stand_still_while_the_others_move(name: str) -> None:
    backbone = small(name, frozen=("early",))
    _, after = forward(*backbone, noise(name))
    for path, before in backbone.statistics.items():
        assert np.array_equal(after[path], before) == path.startswith("early/"), path


@pytest.mark.parametrize("running_variance", ["biased", "unbiased"])
@pytest.mark.parametrize("name", variants.BACKBONES)
def test_every_normalisation_of_a_backbone_keeps_the_variance_that_is_asked_for(
    name: str, running_variance: str
) -> None:
    running = variants.RunningAverages(variance=running_variance)
    backbone = variants.declare(f"{name}_512", frames=32, width=WIDTH, running=running)
    model = variants._assemble(backbone)
    norms = [module for _, module in nnx.iter_modules(model) if isinstance(module, layers.BatchNorm)]
    assert len(norms) == sum(path.endswith("/var") for path in backbone.statistics)
    assert {norm.unbiased for norm in norms} == {running_variance == "unbiased"}


def test_in_evaluation_an_embedding_depends_on_its_own_piece_and_the_running_averages_only() -> None:
    backbone, x = small("mobilefacenet"), noise("mobilefacenet")
    embeddings = embed(*backbone, x)
    np.testing.assert_array_equal(embed(*backbone, x.at[1].multiply(5))[0], embeddings[0])
    wider = {path: leaf + 1 for path, leaf in backbone.statistics.items()}
    assert not np.allclose(embed(*backbone._replace(statistics=wider), x), embeddings, rtol=0.1)


def test_a_wholly_frozen_backbone_embeds_as_in_evaluation() -> None:
    backbone, x = small("mobilefacenet", frozen=("early", "late", "embedding")), noise("mobilefacenet")
    embeddings, statistics = forward(*backbone, x)
    np.testing.assert_allclose(embeddings, embed(*small("mobilefacenet"), x), rtol=1e-4, atol=1e-5)
    for path, before in backbone.statistics.items():
        np.testing.assert_array_equal(statistics[path], before)
