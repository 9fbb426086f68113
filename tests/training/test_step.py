"""The compiled step: equal numbers for groups, programs, dispatches and devices; only the right parameters move."""

import ast
import inspect
import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from flax import nnx
from jax.typing import DTypeLike

from asdjax.config.fields import VARIANTS, Config, default_config
from asdjax.errors import InputError
from asdjax.fleet import fleet_model
from asdjax.models import layers, variants
from asdjax.models.ops import pooling
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.runtime import hardware
from asdjax.training import batches, optimizer, sampler
from asdjax.training import step as step_module
from asdjax.training.audio_feed import NO_PADDING, HostFeed, find_padded_sizes, make_waves
from asdjax.training.dispatches import Dispatch
from asdjax.training.group_size import choose_group_size
from asdjax.training.sampler import SamplingTable
from asdjax.training.state import TrainSpec, TrainState, get_model, init_state, make_train_spec, stack_states
from asdjax.training.step import DispatchArgs, StepMetrics, compile_steps

ONE, TWO = ("small_512",), ("small_512", "small_1024")
OTHER_ORDER = 1e-3  # relative, of losses: the same sums in another order, over a few steps

pytestmark = [
    pytest.mark.filterwarnings("ignore:Some donated buffers were not usable"),
]


class Small(nnx.Module):
    """Two convolutions of every eighth row and fourth frame: what a fleet does does not depend on its backbones."""

    def __init__(self, height: int, frames: int, c_in: int, *, width: float, dtype: DTypeLike) -> None:
        del height, frames, width
        self.early = layers.ConvNorm(layers.Conv(c_in, 8, 3, stride=2, dtype=dtype), 8, nnx.relu)
        late = layers.ConvNorm(layers.Conv(8, 32, 1, dtype=dtype), 32, nnx.relu)
        self.late = nnx.Sequential(late, pooling.global_average_pool)
        self.embedding = layers.Dense(32, layers.EMBEDDING, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.embedding(self.late(self.early(x[:, ::8, ::4])))


@pytest.fixture(autouse=True)
def small_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(variants.BACKBONES, "small", Small)


def tiny(names: tuple[str, ...] = ONE) -> Config:
    config = default_config()
    config.variants = names
    config.width = 0.125
    config.train.batch_size = 8
    config.optimizer.learning_rate = 0.01
    return config


def made_up_corpus() -> tuple[list[np.ndarray], SamplingTable]:
    """Two sections that differ in pitch: 4 source and 2 target clips each, of 2 s."""
    rng = np.random.default_rng(0)
    seconds = np.arange(32_000) / 16_000
    clips = [
        2000 * np.sin(2 * np.pi * pitch * seconds) + rng.normal(0, 300, len(seconds))
        for pitch in (400, 2500)
        for _ in range(6)
    ]
    is_target = [False] * 4 + [True] * 2
    plan = sampler.make_table([0] * 6 + [1] * 6, is_target * 2, [63] * 12, [0, 1])
    return [clip.astype(np.int16) for clip in clips], plan


class Fleet:
    """Fleets in one program, one by default, on the made-up corpus, from scratch, ready to step."""

    def __init__(
        self,
        config: Config,
        trainable: tuple[str, ...] = PARAMETER_GROUPS,
        phase: str = "phase1",
        tasks: tuple[str, ...] = ("fan",),
        group_size: int = 1,
    ) -> None:
        self.spec: TrainSpec = make_train_spec(config, 2, trainable, group_size)
        self.rate = config.optimizer.learning_rate
        mesh = hardware.make_meshes()[0]
        clips, table = made_up_corpus()
        states = [init_state(self.spec, fleet_model.init_model(self.spec.model, 0, task)) for task in tasks]
        keys = jnp.stack([sampler.make_keys(0, task, self.spec.variants, phase) for task in tasks])
        self.state: TrainState = hardware.replicate(stack_states(states), mesh)
        tables = sampler.stack_tables([table] * len(tasks))
        self.audio, self.table, self.keys = hardware.replicate((make_waves(clips * len(tasks)), tables, keys), mesh)
        self.program = compile_steps(self.spec, mesh)

    def run(self, *first: int, steps: int = 1, last: int = 1000) -> StepMetrics:
        """Run steps in one dispatch, each run's from its `first` on."""
        self.state, metrics = self.program(*self._arguments(first, steps, last))
        return jax.tree.map(np.asarray, metrics)

    def _arguments(self, first: tuple[int, ...], steps: int, last: int) -> tuple:
        rates = jnp.full((len(first), self.spec.steps_per_dispatch), self.rate)
        args = DispatchArgs(jnp.int32(steps), jnp.array(first), jnp.full(len(first), last), rates)
        return self.state, self.audio, self.table, self.keys, args

    def lowered(self) -> str:
        """Return the lowered program of one step."""
        arguments = self._arguments((0,) * len(self.keys), 1, 1000)
        return self.program.lower(*arguments).as_text()  # pyright: ignore

    def model(self, task: int = 0) -> fleet_model.Model:
        """Return a run's model as numpy copies, as buffers are donated."""
        return jax.tree.map(lambda leaf: np.array(leaf[task]), get_model(self.state))


def losses(ready: Fleet, steps: int) -> np.ndarray:
    """Return the losses of a single run, (steps, v)."""
    return np.concatenate([ready.run(step).loss[:, 0] for step in range(steps)])


def first_loss_fed_by_the_host() -> list[list[float]]:
    ready, mesh = Fleet(tiny()), hardware.make_meshes()[0]
    clips, plan = made_up_corpus()
    plan = sampler.stack_tables([plan])
    (ready.audio,) = HostFeed(clips, mesh).audio(ready.spec, plan, ready.keys, [Dispatch((0,), 1)])
    return ready.run(0).loss[:, 0].tolist()


@pytest.mark.slow
def test_eight_devices_give_the_losses_of_one():
    """With all audio on each of them, and with each one's share of the crops from the host."""
    code = """
import json, sys
sys.path.insert(0, "tests"), sys.path.insert(0, "tests/training")
import jax
import test_step as t
t.variants.BACKBONES["small"] = t.Small
ready = t.Fleet(t.tiny())
print(json.dumps([jax.device_count(), t.losses(ready, 3).tolist(), t.first_loss_fed_by_the_host()]))
"""
    ran = python(code, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert ran.returncode == 0, ran.stderr
    devices, of_eight, fed_by_the_host = json.loads(ran.stdout.splitlines()[-1])
    assert devices == 8
    of_one = losses(Fleet(tiny()), 3)
    np.testing.assert_allclose(of_eight, of_one, rtol=OTHER_ORDER)
    np.testing.assert_allclose(fed_by_the_host, of_one[:1], rtol=OTHER_ORDER)


def test_a_variant_trains_the_same_alone_and_with_others():
    alone, together = Fleet(tiny(ONE)), Fleet(tiny(TWO))
    expected, got = losses(alone, 3), losses(together, 3)
    np.testing.assert_allclose(got[:, :1], expected, rtol=OTHER_ORDER)
    assert not np.allclose(got[:, 0], got[:, 1])
    models = [ready.model().parameters[ONE[0]] for ready in (alone, together)]
    for path, leaf in models[0].items():
        np.testing.assert_allclose(models[1][path], leaf, rtol=1e-3, atol=1e-4, err_msg=path)


def test_stacked_tasks_train_as_each_would_alone():
    """Each from its own step to its own end, where it stays as it is."""
    together, alone = Fleet(tiny(), tasks=("fan", "pump")), [Fleet(tiny(), tasks=(task,)) for task in ("fan", "pump")]
    for step in range(3):
        got = together.run(step, step + 5, last=7).loss[0]
        np.testing.assert_allclose(got[0], alone[0].run(step).loss[0, 0], rtol=OTHER_ORDER)
        if step < 2:
            np.testing.assert_allclose(got[1], alone[1].run(step + 5).loss[0, 0], rtol=OTHER_ORDER)
    for task, ready in enumerate(alone):
        learned = together.model(task)
        for stacked, single in zip(learned, ready.model(), strict=True):
            for path, leaf in single[ONE[0]].items():
                np.testing.assert_allclose(stacked[ONE[0]][path], leaf, rtol=1e-3, atol=1e-4, err_msg=path)
    assert compilations(together) == 2  # one for each size of a stack


@pytest.mark.parametrize(("platform", "variants"), [pytest.param("cpu", ONE, marks=pytest.mark.slow), ("gpu", TWO)])
def test_a_dispatch_of_several_steps_equals_single_ones(platform: str, variants: tuple[str, ...]):
    """Also as on a GPU, where small arrays are flattened."""
    config = tiny(variants)
    config.optimizer.weight_decay, config.optimizer.clip_norm, config.optimizer.average_decay = 0.1, 1.0, 0.15
    single = Fleet(config)
    config.train.steps_per_dispatch = 3
    several = Fleet(config, group_size=len(variants))
    several.program = step_module._compile_steps(several.spec, hardware.make_meshes()[0], platform)
    expected = losses(single, 3)
    np.testing.assert_allclose(several.run(0, steps=3).loss[:, 0], expected, rtol=OTHER_ORDER)
    learned = several.model().parameters
    for variant, leaves in single.model().parameters.items():
        for path, leaf in leaves.items():
            np.testing.assert_allclose(learned[variant][path], leaf, rtol=OTHER_ORDER, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(several.run(3).loss[:1], single.run(3).loss, rtol=OTHER_ORDER)
    assert compilations(several) == 1


@pytest.mark.parametrize(
    ("platform", "memory_bytes", "batch_size", "fleets", "size"),
    [
        ("gpu", 100e9, 48, 1, 6),
        ("gpu", 100e9, 48, 7, 1),
        ("gpu", 40e9, 48, 1, 1),
        ("gpu", 40e9, 24, 1, 6),
        ("gpu", None, 48, 1, 1),
        ("tpu", 100e9, 48, 1, 1),
    ],
)
def test_a_group_has_the_variants_that_a_gpu_has_memory_for(
    platform: str, memory_bytes: float | None, batch_size: int, fleets: int, size: int
):
    config = default_config()
    config.train.batch_size, config.train.precision = batch_size, "bfloat16"
    with hardware.compiling_for(platform, memory_bytes):
        assert choose_group_size(config, 1, fleets) == size
        config.train.variants_per_group = 2
        assert choose_group_size(config, 1, fleets) == 2


SIX = tuple(f"{name}_{height}" for name in ("small", "smaller", "smallest") for height in (1024, 512))


def six_fleet(monkeypatch: pytest.MonkeyPatch, group_size: int, tasks: tuple[str, ...] = ("fan",)) -> Fleet:
    for name in ("smaller", "smallest"):
        monkeypatch.setitem(variants.BACKBONES, name, Small)
    return Fleet(tiny(SIX), group_size=group_size, tasks=tasks)


@pytest.mark.slow
def test_groups_of_six_four_three_and_one_give_equal_losses(monkeypatch: pytest.MonkeyPatch):
    of_one, *others = (losses(six_fleet(monkeypatch, size), 3) for size in (1, 3, 4, 6))
    assert of_one.shape == (3, 6)
    np.testing.assert_allclose(of_one[0], others[0][0], rtol=1e-6)
    for got in others:
        np.testing.assert_allclose(got, of_one, rtol=OTHER_ORDER)


def test_a_later_group_waits_for_an_earlier_one(monkeypatch: pytest.MonkeyPatch):
    """The lowered step has a barrier after each group but that of all variants; layers have others."""
    of_all, of_three, of_one = (
        six_fleet(monkeypatch, size).lowered().count("optimization_barrier") for size in (6, 3, 1)
    )
    assert (of_three - of_all, of_one - of_all) == (2, 6)


def test_a_group_of_six_has_one_batched_product_of_arcface_logits(monkeypatch: pytest.MonkeyPatch):
    """One product of all variants forward, two backward (embeddings, centres); none of a single variant."""
    k, d, b = 2, layers.EMBEDDING, 8
    products = [line for line in six_fleet(monkeypatch, 6).lowered().splitlines() if "dot_general" in line]
    forward = [line for line in products if f"tensor<6x{b}x{k}xf32>" in line.rsplit("->", 1)[1]]
    backward = [
        line
        for line in products
        if any(f"tensor<6x{rows}x{d}xf32>" in line.rsplit("->", 1)[1] for rows in (b, k))
        or any(f"tensor<6x{d}x{rows}xf32>" in line.rsplit("->", 1)[1] for rows in (b, k))
    ]
    assert (len(forward), len(backward)) == (1, 2), products
    single = [line for line in products if f"x{b}x{k}xf32>" in line.rsplit("->", 1)[1] and line not in forward]
    assert not single


def test_a_dispatch_of_one_step_has_no_loop():
    """A CPU runs convolutions in a loop's body ten times slower."""
    config = tiny()
    loops = []
    for config.train.steps_per_dispatch in (1, 2):
        main = Fleet(config).lowered().partition("func.func public @main")[2].partition("func.func private")[0]
        loops.append(main.count("stablehlo.while"))
    assert loops == [0, 1]


def test_no_function_of_ours_is_between_train_step_and_the_gradient():
    """`train_step` itself calls `jax.grad`, so that a reader finds it there."""
    tree = ast.parse(inspect.getsource(step_module.train_step))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert "jax.grad" in called
    differentiated = next(
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.grad"
    )
    assert ast.unparse(differentiated.args[0]) == "group_loss"


@pytest.mark.parametrize("momentum", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_a_packed_stack_of_which_little_trains_equals_single_steps(momentum: float):
    """Some variants' arrays of a strategy are packed, of two tasks, one of which is done a step before the other."""
    config = tiny(TWO)
    config.optimizer.momentum = momentum
    groups, tasks = optimizer.TRAINABLE["backbone"], ("fan", "pump")
    single = Fleet(config, groups, tasks=tasks)
    config.train.steps_per_dispatch = 2
    several = Fleet(config, groups, tasks=tasks, group_size=2)
    several.program = step_module._compile_steps(several.spec, hardware.make_meshes()[0], "gpu")
    for step in range(2):
        single.run(step, step + 5, last=6)
    several.run(0, 5, steps=2, last=6)
    for task in range(2):
        for ours, theirs in zip(several.model(task), single.model(task), strict=True):
            for variant in TWO:
                for path, leaf in theirs[variant].items():
                    np.testing.assert_allclose(ours[variant][path], leaf, rtol=OTHER_ORDER, atol=1e-4, err_msg=path)


def compilations(ready: Fleet) -> int:
    return ready.program._cache_size()  # pyright: ignore


def test_the_step_compiles_once_for_phase_1_and_full_phase_2():
    phase1 = Fleet(tiny())
    phase2 = Fleet(tiny(), optimizer.TRAINABLE["full"], "phase2_full")
    assert phase2.program is phase1.program
    phase1.run(0)
    compiled = compilations(phase1)
    fine_tuning = sampler.stack_tables([sampler.make_target_table(made_up_corpus()[1], [0])])
    phase2.table = hardware.replicate(fine_tuning, hardware.make_meshes()[0])
    phase2.rate = 0.001
    phase2.run(0)
    phase2.run(1)
    assert compilations(phase1) == compiled


def test_the_step_compiles_once_for_tasks_of_unequal_clips_and_draws_what_each_would_alone():
    """In the room of the larger; what is beyond a task's own clips is never drawn."""
    clips, plan = made_up_corpus()
    fewer, of_fewer = clips[:4] + clips[6:11], sampler.make_table([0] * 4 + [1] * 5, [False] * 9, [63] * 9, [0, 1])
    room = find_padded_sizes(default_config(), [[clips], [fewer]])
    compiled = set()
    for samples, of_task in ((clips, plan), (fewer, of_fewer)):
        got = []
        for space in (room, NO_PADDING):
            ready = Fleet(tiny())
            arrays = make_waves(samples, space), sampler.stack_tables([of_task], space.task_clips, space.program_clips)
            ready.audio, ready.table = hardware.replicate(arrays, hardware.make_meshes()[0])
            got.append(ready.run(0).loss[0, 0, 0])
            if space is room:
                compiled.add(compilations(ready))
        assert got[0] == pytest.approx(got[1], rel=OTHER_ORDER)
    assert len(compiled) == 1


def test_losses_fall():
    """Without mixup, whose random weights would hide it: with two sections every piece is a mix of both."""
    config = tiny()
    config.mixup.max_weight = 0.0
    of_steps = losses(Fleet(config), 60)
    assert of_steps[-10:].mean() < 0.1 * of_steps[:10].mean()


@pytest.mark.parametrize("strategy", optimizer.TRAINABLE)
def test_a_strategy_moves_exactly_its_parameters_and_statistics(strategy: str):
    """Of all four, with a head whose scale moves as the centres do."""
    expected = {
        "full": {"early", "late", "embedding", "arcface"},
        "last_block": {"late", "embedding", "arcface"},
        "backbone": {"embedding", "arcface"},
        "arcface": {"early", "late", "embedding"},
    }[strategy]
    config = tiny()
    config.loss, config.arcface.subcentres = "subcluster_adacos", 2
    ready = Fleet(config, optimizer.TRAINABLE[strategy])
    before = ready.model()
    velocity_of = {path for path, _ in flat(ready.state.velocity)}
    ready.run(0)
    after = ready.model()
    for was, now in zip(before, after, strict=True):
        for path, leaf in was[ONE[0]].items():
            moved = not np.array_equal(leaf, now[ONE[0]][path])
            assert moved == (path.split("/")[0] in expected), path
    moving = {path for path in before.parameters[ONE[0]] if path.split("/")[0] in expected}
    assert {path.split("'")[-2] for path in velocity_of} == moving


def flat(tree) -> list[tuple[str, jax.Array]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def test_bfloat16_computes_and_keeps_float32_parameters():
    config = tiny()
    config.train.precision = "bfloat16"
    ready = Fleet(config)
    draws = jax.eval_shape(lambda: batches.draw_batches(ready.spec, made_up_corpus()[1], ready.keys[0], jnp.int32(0)))
    (pieces,) = jax.eval_shape(lambda: batches.make_pieces(ready.spec, ready.audio, draws)).values()
    assert pieces.dtype == jnp.bfloat16
    assert np.isfinite(losses(ready, 2)).all()
    assert {leaf.dtype for _, leaf in flat(ready.state)} == {jnp.dtype("float32")}


def test_parameters_are_a_function_of_seed_task_and_variant():
    spec = fleet_model.make_spec(tiny(TWO), 2)
    alone = fleet_model.make_spec(tiny(ONE), 2)
    same = fleet_model.init_model(alone, 0, "fan").parameters[ONE[0]]
    for path, leaf in fleet_model.init_model(spec, 0, "fan").parameters[ONE[0]].items():
        np.testing.assert_array_equal(same[path], leaf)
    kernel = next(path for path in same if path.endswith("kernel"))
    for other in (fleet_model.init_model(alone, 1, "fan"), fleet_model.init_model(alone, 0, "pump")):
        assert not np.array_equal(other.parameters[ONE[0]][kernel], same[kernel])


def test_a_parameter_that_no_freeze_rule_covers_is_an_error():
    with pytest.raises(ValueError, match=r"covers tail/kernel"):
        optimizer.partition({"early/kernel": 0, "tail/kernel": 0}, ("early",))


@pytest.mark.parametrize(("batch", "nearest"), [(12, "8 or 16"), (3, "8"), (17, "16 or 24")])
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest(batch: int, nearest: str):
    class EightDevices:
        size = 8

    with pytest.raises(
        InputError, match=rf"batch_size: expected a multiple of the 8 devices, got {batch}.*: {nearest}$"
    ):
        hardware.require_divisible(batch, EightDevices())  # pyright: ignore
    hardware.require_divisible(16, EightDevices())  # pyright: ignore


@pytest.mark.slow
def test_the_three_backbones_train_the_same_alone_and_together():
    """The real ones, narrow, of both heights: the first step's losses, and after it what a step moved."""
    chosen = ("mobilefacenet_1024", "resnet50_512", "efficientnet_b0_512")
    config = tiny(chosen)
    config.width, config.train.batch_size = 0.05, 4
    together = Fleet(config)
    expected = together.run(0)
    for v, variant in enumerate(chosen):
        config.variants = (variant,)
        alone = Fleet(config)
        got = alone.run(0)
        assert got.loss[0, 0, 0] == pytest.approx(expected.loss[0, 0, v], rel=1e-4)
        assert got.gradient_norm[0, 0, 0] == pytest.approx(expected.gradient_norm[0, 0, v], rel=1e-2)
        for one, of_all in zip(alone.model(), together.model(), strict=True):
            for path, leaf in one[variant].items():
                np.testing.assert_allclose(of_all[variant][path], leaf, rtol=1e-2, atol=1e-3, err_msg=path)


@pytest.fixture
def optimised() -> Iterator[None]:
    """Let XLA optimise as usual."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_full_size_variants_train_on_the_cpu():
    """All six as in the report, batch 8; the same step number draws the same batch, so that losses must fall."""
    config = tiny(VARIANTS)
    config.width = 1.0
    config.optimizer.learning_rate = 0.0003
    config.optimizer.momentum = 0.0  # plain descent
    ready = Fleet(config)
    of_steps = np.concatenate([ready.run(0).loss[:, 0] for _ in range(6)])
    assert np.isfinite(of_steps).all()
    assert (of_steps[-1] < of_steps[0]).all(), of_steps


def test_what_the_running_variance_is_of_is_the_configuration_s_and_makes_a_program_of_its_own():
    config = tiny()
    assert config.normalisation.running_variance == "biased"
    specs = {}
    for kind in ("biased", "unbiased"):
        config.normalisation.running_variance = kind
        specs[kind] = fleet_model.make_spec(config, 2)
    graphs = [fleet_model.declare(spec, spec.variants[0]).graph for spec in specs.values()]
    assert specs["biased"] != specs["unbiased"]
    assert graphs[0] != graphs[1]
