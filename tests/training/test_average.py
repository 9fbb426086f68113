"""The moving average of a model (optimizer.average_decay): its formula, its place in checkpoints, its resume."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import train_tiny

from asdjax.config import loading
from asdjax.fleet import checkpoints, fleet_model
from asdjax.fleet.fleet_model import Model

pytestmark = pytest.mark.usefixtures("shallow")

DECAY = 0.2  # reached at the third step
AVERAGED = {"optimizer__average_decay": str(DECAY), "phase2__strategies": "last_block"}


def read(workdir: Path, line: str, step: int) -> dict[str, np.ndarray]:
    """Return the arrays of a saved model by path, in float64."""
    spec = fleet_model.make_spec(loading.read(workdir), 2)
    model = checkpoints.restore(workdir / "fan" / line, step, {"model": fleet_model.describe_model(spec)})["model"]
    return flat(model)


def flat(model: Model) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(model)
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def average(first: Mapping[str, np.ndarray], models: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Average by mean = d * mean + (1 - d) * model with d = min(decay, (1 + step) / (10 + step)), in float64."""
    mean = dict(first)
    for step, model in enumerate(models):
        decay = min(DECAY, (1 + step) / (10 + step))
        mean = {path: decay * mean[path] + (1 - decay) * model[path] for path in mean}
    return mean


@pytest.fixture(scope="module")
def workdirs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Work directories of a training without and with an average, of which every step is kept."""
    folder = tmp_path_factory.mktemp("average")
    every = {"train__checkpoint_every_steps": "1", "train__keep": "9"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asdjax.models.resnet.STAGES", ((128, 1, 4),))
        assert train_tiny(corpus, folder / "plain", **every, phase2__strategies="last_block") == 0
        assert train_tiny(corpus, folder / "averaged", **every, **AVERAGED) == 0
    return folder / "plain", folder / "averaged"


def test_the_saved_model_is_the_average_of_the_models_without_it(workdirs: tuple[Path, Path]):
    plain, averaged = workdirs
    spec = fleet_model.make_spec(loading.read(plain), 2)
    first = flat(fleet_model.init_model(spec, 0, "fan"))
    models = [read(plain, "phase1", step) for step in range(1, 7)]
    for step in (1, 3, 6):
        got, expected = read(averaged, "phase1", step), average(first, models[:step])
        assert got.keys() == expected.keys()
        for path, values in expected.items():
            np.testing.assert_allclose(got[path], values, rtol=1e-5, atol=1e-6, err_msg=f"{path} at step {step}")
    assert any(not np.array_equal(got[path], models[-1][path]) for path in got)


def test_phase_2_begins_from_the_average_and_keeps_what_is_frozen(workdirs: tuple[Path, Path]):
    _, averaged = workdirs
    begin, end = read(averaged, "phase1", 6), read(averaged, "phase2_last_block", 3)
    same = {path for path in begin if np.array_equal(begin[path], end[path])}
    assert {path for path in begin if "'early/" in path} == same


def test_a_stopped_training_goes_on_with_the_same_bits(workdirs: tuple[Path, Path], corpus: Path, tmp_path: Path):
    shutil.copytree(workdirs[1], stopped := tmp_path / "run")
    for line, last in (("phase1", 4), ("phase2_last_block", 0)):
        for step in checkpoints.list_steps(stopped / "fan" / line):
            if step > last:
                (stopped / "fan" / line / f"{step}.json").unlink()
                shutil.rmtree(stopped / "fan" / line / str(step))
    every = {"train__checkpoint_every_steps": "1", "train__keep": "9"}
    assert train_tiny(corpus, stopped, **every, **AVERAGED) == 0
    for line, step in (("phase1", 6), ("phase2_last_block", 3)):
        digests = [checkpoints.read_digest(workdir / "fan" / line, step) for workdir in (workdirs[1], stopped)]
        assert digests[0] == digests[1]
    saved = {path.name for path in (stopped / "fan" / "phase1" / "5").iterdir()}
    assert saved == {"model", "optimizer", "trained"}
    assert {path.name for path in (stopped / "fan" / "phase1" / "6").iterdir()} == {"model"}
