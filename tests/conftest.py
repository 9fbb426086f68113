"""What tests share: strict JAX, compiled programs kept for a session, real sound, one tiny trained work directory."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import pytest

from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.data.access import open_corpus, open_stores, read_recordings
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.data.tasks import make_tasks
from asdjax.fleet import checkpoints, fleet_model, training_set
from asdjax.fleet.runs import list_lines, list_runs
from asdjax.models import resnet

jax.config.update("jax_numpy_rank_promotion", "raise")

PROJECT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"

TINY = {
    "variants": "resnet50_512",
    "width": "0.1",
    "optimizer.learning_rate": "0.01",
    "train.batch_size": "4",
    "train.log_every_steps": "1",
    "train.checkpoint_every_steps": "2",
    "phase1.steps": "6",
    "phase2.steps": "3",
    "phase2.strategies": "full,last_block",
    "evaluate.batch_size": "16",
}
"""Overrides of configs/dcase2021.py that make a fleet of a few seconds. Tests keep to them where they can: what
is compiled once is there for all. Tests that train or score it use the fixture `shallow`."""

RECIPE = Recipe(source_clips=4, target_clips=2, test_clips=3, sections=2, seconds=2.0)

_caches = tempfile.TemporaryDirectory(prefix="asdjax-tests-", ignore_cleanup_errors=True)


def pytest_configure() -> None:
    """Compiled programs are shared by all tests and their subprocesses, and XLA optimises little, as small fleets spend
    their time compiling. Nothing is written to the user's home."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each command tested would take 15 s to import
    # the workers' threads of linear algebra would wait for each other's cores: 120 s for what takes one thread 5
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    programs = Path(_caches.name, "asdjax", "xla")  # where runtime.prepare() puts them too
    os.environ["XDG_CACHE_HOME"] = _caches.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def pytest_unconfigure() -> None:
    """Compiled programs are of this session only."""
    _caches.cleanup()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sound and published score files beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data beside the project, which is not here")
    return SHARED_DATA


SHALLOW = float(TINY["width"])
"""The width of `shallow_networks`. Programs are kept by fleet, so none of theirs may have the width of others."""

DEEP = 0.125
"""The width of small fleets whose networks have all their layers."""

_ALL_STAGES = resnet.STAGES


@contextlib.contextmanager
def shallow_networks() -> Iterator[None]:
    """Within it, here and in `python`, ResNet-50 has one block, not sixteen.

    It is for tests of what lies around networks: compiling takes a fraction. The width must be SHALLOW.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "STAGES", ((128, 1, 4),))
        yield


@pytest.fixture
def shallow() -> Iterator[None]:
    """`shallow_networks` for a test."""
    with shallow_networks():
        yield


def overrides(corpus: Path, **changes: str) -> list[str]:
    """TINY on a corpus as words of the command line; `changes` with __ for the dot: phase1__steps="2"."""
    return [f"--config.{field}={value}" for field, value in _values(corpus, changes).items()]


def _values(corpus: Path, changes: Mapping[str, str]) -> dict[str, str]:
    return {**TINY, "data.root": str(corpus), **{key.replace("__", "."): text for key, text in changes.items()}}


def train_tiny(corpus: Path, workdir: Path, *words: str, **changes: str) -> int:
    """`asdjax train` in this process, with more words if any; returns the exit code."""
    config = str(PROJECT / "configs" / "dcase2021.py")
    return main(["train", "--config", config, "--workdir", str(workdir), *words, *overrides(corpus, **changes)])


def untrained(corpus: Path, workdir: Path, **changes: str) -> Path:
    """A work directory as training leaves it, its fleets as they were initialised: what goes on from checkpoints need
    not wait for one. The changes are as in `overrides`."""
    config = loading.load(str(PROJECT / "configs" / "dcase2021.py"), _values(corpus, changes))
    loading.make_absolute(config)
    clips = open_corpus(config)
    workdir.mkdir()
    for run in list_runs(config, workdir, make_tasks(clips, config.data.classes)):
        stores = open_stores(config, workdir, clips, run.task.machines)
        training_set.save(config, run, read_recordings(stores, run.task.clips), 1)
        spec = fleet_model.make_spec(config, len(run.task.classes))
        model = fleet_model.init_model(spec, run.seed, run.task.name)
        for line, step in list_lines(config, run.task).items():
            checkpoints.save(run.folder / line, step, {"model": model}, keep=2)
    loading.save(config, workdir)
    return workdir


def with_these_networks(code: str) -> str:
    """Return a program for a subprocess whose ResNet-50 has as many blocks as here."""
    if resnet.STAGES == _ALL_STAGES:
        return code
    return f"from asdjax.models import resnet; resnet.STAGES = {resnet.STAGES}\n{code}"


def python(code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A program of its own in a subprocess, at the project's root."""
    command: Sequence[str] = [sys.executable, "-c", with_these_networks(code), *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One synthetic machine type in the 2021 layout: 2 sections, 2 s clips, 4 source, 2 target, 3 test a label."""
    folder = tmp_path_factory.mktemp("corpus")
    synthesize(folder, RECIPE, machines=("fan",))
    return folder


@pytest.fixture(scope="session")
def trained_once(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory trained without interruption and evaluated; only to be read."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    with shallow_networks():
        assert train_tiny(corpus, workdir) == 0
        assert main(["evaluate", "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the trained and evaluated work directory, to do with as one likes."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))
