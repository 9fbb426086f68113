"""PyTorch counterparts and asdjax's models: the same numbers of parameters, the same embeddings from equal weights."""

import json
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import PROJECT

from asdjax.models import initialise, variants
from asdjax.models.variants import VARIANTS, Backbone
from asdjax.perf import torch_peer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get(torch_peer.INTERPRETER), reason="needs in TORCH_PYTHON an interpreter that has torch"
    ),
]

EMBED = """
import json, sys
import numpy as np, torch
sys.path.insert(0, "tests/perf")
import torch_backbones

LEAVES = {"kernel": "weight", "scale": "weight", "slope": "weight", "mean": "running_mean", "var": "running_var"}

def copy_array(path, array, shape):
    *words, leaf = path.split("/")
    if leaf == "kernel":
        order = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}[array.ndim]
        array = array.transpose(order)
    return torch.from_numpy(np.ascontiguousarray(array)).reshape(shape)

def make_name(path):
    *words, leaf = path.split("/")
    return ".".join([word for word in words if word != "layers"] + [LEAVES.get(leaf, leaf)])

variant, folder = sys.argv[1:]
arrays = dict(np.load(folder + "/arrays.npz"))
model = torch_backbones.build(variant)
there = model.state_dict()
state = {make_name(path): copy_array(path, array, there[make_name(path)].shape) for path, array in arrays.items()}
unfilled = [name for name in there if name not in state and not name.endswith("num_batches_tracked")]
assert not unfilled, unfilled
model.load_state_dict(state, strict=False)
pieces = torch.from_numpy(np.load(folder + "/pieces.npy")).permute(0, 3, 1, 2)
with torch.no_grad():
    np.save(folder + "/eval.npy", model.eval()(pieces).numpy())
    np.save(folder + "/train.npy", model.train()(pieces).numpy())
print(json.dumps(sum(p.numel() for p in model.parameters())))
"""


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_weights_give_the_same_embeddings(variant: str, tmp_path: Path):
    shapes = variants.declare(variant, frames=32)
    backbone = Backbone(shapes.graph, *(initialise.fill(arrays, 0, variant) for arrays in shapes[1:]))
    height = variants.piece_height(variant)
    pieces = np.random.default_rng(0).standard_normal((8, height, 32, 1), np.float32)
    np.savez(tmp_path / "arrays.npz", **backbone.parameters, **backbone.statistics)
    np.save(tmp_path / "pieces.npy", pieces)
    words = [os.environ[torch_peer.INTERPRETER], "-c", EMBED, variant, str(tmp_path)]
    ran = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == sum(array.size for array in backbone.parameters.values())
    for name, embed in (("eval", variants.embed), ("train", lambda *of: variants.forward(*of)[0])):
        run = jax.jit(lambda arrays, x, embed=embed: embed(Backbone(shapes.graph, *arrays), x))
        theirs = np.load(tmp_path / f"{name}.npy")
        atol = 1e-4 * np.abs(theirs).max()
        np.testing.assert_allclose(run(backbone[1:], pieces), theirs, atol=atol, rtol=0, err_msg=name)
