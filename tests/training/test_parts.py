"""Parts of a run in one work directory: who trains what, what one failure costs, what a part looks at."""

import builtins
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from conftest import PROJECT, overrides, python, train_tiny, with_these_networks

from asdjax.config import loading
from asdjax.data.access import scan_corpus
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.errors import Diverged, InputError, Interrupted, InUse
from asdjax.fleet import checkpoints, metric_log, run_list
from asdjax.fleet.run_list import RunChoice
from asdjax.fleet.status import read_status
from asdjax.runtime.files import locked_folder
from asdjax.training import loop
from asdjax.training.failures import raise_worst
from asdjax.training.step import StepMetrics
from asdjax.training.train import train

pytestmark = pytest.mark.usefixtures("shallow")

MACHINES = ("fan", "pump", "valve")
#: Steps and variants do not matter to who trains what.
SHORT = {"phase1__steps": "2", "phase2__steps": "1", "phase2__strategies": "full"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three machine types."""
    root = tmp_path_factory.mktemp("three") / "data"
    recipe = Recipe(source_clips=3, target_clips=2, test_clips=1, sections=2, seconds=2.0)
    synthesize(root, recipe, machines=MACHINES)
    return root


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Steps that change nothing and need no compiling; the function makes those of one run, by its name, diverge."""
    diverging: set[str] = set()

    def compiled(spec, _):
        def run_steps(state, audio, table, keys, args):
            metrics = jnp.zeros((spec.steps_per_dispatch, len(keys), len(spec.variants)))
            return state, StepMetrics(metrics, metrics, metrics)

        return run_steps

    def watched(self) -> None:
        for run in self._runs:
            if run.run.name in diverging:
                raise Diverged(f"{run.run.name}: no number", run.run.name)

    monkeypatch.setattr(loop, "compile_steps", compiled)
    monkeypatch.setattr(loop.MetricMonitor, "require_finite", watched)
    return diverging.add


def trained_in(workdir: Path) -> list[str]:
    return sorted(line.parent.name for line in workdir.glob("*/phase2_full") if checkpoints.list_steps(line) == [1])


@pytest.mark.parametrize("number", range(1, 15))
def test_parts_divide_the_runs(number: int):
    names = [f"run{i:02}" for i in range(12)]
    parts = [RunChoice((i, number)).choose(names) for i in range(number)]
    assert Counter(name for part in parts for name in part) == Counter(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_run_that_is_not_there_is_refused_with_those_of_like_name():
    with pytest.raises(InputError, match=r"^only pumb: expected names of runs such as pump; correct it$"):
        RunChoice(only=("fan", "pumb")).choose(MACHINES)


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_an_impossible_part_is_refused(part: tuple[int, int]):
    with pytest.raises(InputError, match=r"^part: expected i of n with i from 0 to n - 1, got "):
        RunChoice(part).choose(MACHINES)


def test_runs_with_seeds_are_named_as_their_folders():
    listed = run_list.RunList("dcase2021", "section", ("fan", "pump"), None)
    assert list(listed.name_runs((0, 1))) == ["fan@0", "fan@1", "pump@0", "pump@1"]
    assert list(run_list.RunList("manifest", "machine_section", ("a", "b"), None).name_runs((3,)).items()) == [
        ("all", ("a", "b"))
    ]


@pytest.mark.usefixtures("standing_still")
def test_two_parts_train_every_run_into_one_work_directory(three: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert train_tiny(three, run, "--part", "1/2", **SHORT) == 0
    assert trained_in(run) == ["pump"]
    assert not (run / "store" / "fan").exists()
    assert train_tiny(three, run, "--part", "0/2", **SHORT) == 0
    assert trained_in(run) == sorted(MACHINES)
    assert json.loads((run / "config.json").read_text())["data"]["machines"] == []


@pytest.mark.usefixtures("standing_still")
def test_a_part_without_runs_is_done(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train_tiny(three, tmp_path / "run", "--part", "3/4", **SHORT) == 0
    assert "no run to train: part 3 of 4 has none of the 3 runs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("standing_still")
def test_a_bad_clip_costs_its_machine_type_only(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(three, tmp_path / "data")
    clip = min((tmp_path / "data" / "pump" / "train").iterdir())
    clip.write_bytes(b"RIFF")
    assert train_tiny(tmp_path / "data", tmp_path / "run", **SHORT) == 2
    lines = capsys.readouterr().err.splitlines()
    assert trained_in(tmp_path / "run") == ["fan", "valve"]
    assert any(line.startswith(f"pump: left out: {clip}") for line in lines)
    assert str(clip) in lines[-1]
    (row,) = metric_log.read(tmp_path / "run" / "pump" / metric_log.FILE)
    assert (row["event"], row["code"]) == ("failed", 2)
    assert str(clip) in row["why"]


@pytest.mark.usefixtures("standing_still")
def test_a_part_whose_runs_all_fail_leaves_their_reasons(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """In a work directory without a training they leave nothing behind."""
    shutil.copytree(three, tmp_path / "data")
    assert train_tiny(tmp_path / "data", tmp_path / "run", "--only", "valve", **SHORT) == 0
    capsys.readouterr()
    for machine in MACHINES:
        min((tmp_path / "data" / machine / "train").iterdir()).write_bytes(b"RIFF")
    assert train_tiny(tmp_path / "data", tmp_path / "run", "--only", "pump,fan", **SHORT) == 2
    assert capsys.readouterr().err.count("a header that is cut off") == 3
    statuses = {run.run: run for run in read_status(tmp_path / "run")}
    assert [statuses[name].state for name in MACHINES] == ["failed", "failed", "done"]
    assert str(tmp_path / "data" / "pump") in statuses["pump"].why
    for words in ((), ("--only", "pump,fan")):
        assert train_tiny(tmp_path / "data", tmp_path / "other", *words, **SHORT) == 2
        assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("standing_still")
def test_a_machine_type_that_has_lost_its_training_clips_is_an_error(three: Path, tmp_path: Path):
    shutil.copytree(three, tmp_path / "data")
    assert train_tiny(tmp_path / "data", tmp_path / "run", "--only", "fan", **SHORT) == 0
    for clip in (tmp_path / "data" / "pump" / "train").iterdir():
        clip.unlink()
    assert train_tiny(tmp_path / "data", tmp_path / "run", "--only", "pump,valve", **SHORT) == 2
    assert "pump: expected training clips" in metric_log.read(tmp_path / "run" / "pump" / metric_log.FILE)[-1]["why"]
    assert trained_in(tmp_path / "run") == ["fan", "valve"]


@pytest.mark.usefixtures("standing_still")
def test_a_machine_type_added_later_is_trained_with_all_runs(three: Path, tmp_path: Path):
    """A new `train` folder below does not change the time of the data folder."""
    shutil.copytree(three, tmp_path / "data")
    shutil.move(tmp_path / "data" / "pump" / "train", tmp_path / "later")
    assert train_tiny(tmp_path / "data", tmp_path / "run", **SHORT) == 0
    shutil.move(tmp_path / "later", tmp_path / "data" / "pump" / "train")
    assert train_tiny(tmp_path / "data", tmp_path / "run", **SHORT) == 0
    assert trained_in(tmp_path / "run") == sorted(MACHINES)


@pytest.mark.usefixtures("standing_still")
def test_an_error_of_one_run_costs_no_other_run_of_its_program(three: Path, tmp_path: Path):
    words = {"parallel__fleets_per_program": "3", **SHORT}
    assert train_tiny(three, tmp_path / "run", **{**words, "phase2__strategies": "()"}) == 0
    for record in (tmp_path / "run" / "pump" / "phase1").glob("*.json"):
        record.write_text("{}")
    shutil.rmtree(tmp_path / "run" / "valve" / "phase1")
    for fleet in ("fan", "valve"):
        shutil.rmtree(tmp_path / "run" / fleet)
    words["phase2__strategies"] = "()"
    code = train_tiny(three, tmp_path / "run", **words)
    assert code == 2
    lines = {name: checkpoints.list_steps(tmp_path / "run" / name / "phase1") for name in ("fan", "valve")}
    assert lines == {"fan": [2], "valve": [2]}


def test_too_little_memory_for_several_runs_in_a_program_trains_each_alone(
    three: Path, tmp_path: Path, standing_still: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    compiled = loop.compile_steps

    def compile_in_little_memory(spec, mesh):
        run_steps = compiled(spec, mesh)

        def run(state, audio, table, keys, args):
            if len(keys) > 1:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\nmore")
            return run_steps(state, audio, table, keys, args)

        return run

    monkeypatch.setattr(loop, "compile_steps", compile_in_little_memory)
    assert train_tiny(three, tmp_path / "run", parallel__fleets_per_program="3", **SHORT) == 0
    assert trained_in(tmp_path / "run") == sorted(MACHINES)


def test_too_little_memory_for_one_run_is_one_line_with_a_remedy(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def compile_in_no_memory(spec, mesh):
        def run(*_: object):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\nmore")

        return run

    monkeypatch.setattr(loop, "compile_steps", compile_in_no_memory)
    assert train_tiny(three, tmp_path / "run", "--only", "fan", **SHORT) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "asdjax train: fan: expected a device with enough memory, got RESOURCE_EXHAUSTED: Out of memory"
    )
    assert "; lower config.parallel.fleets_per_program, config.train.variants_per_group or" in line
    assert "more" not in line


@pytest.mark.usefixtures("standing_still")
def test_an_error_of_one_seed_costs_no_other_seed(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = {"seed": "0,1", **SHORT}
    assert train_tiny(three, tmp_path / "run", "--only", "fan@0,fan@1", **words) == 0
    (tmp_path / "run" / "fan@0" / "task.json").write_text("{}")
    shutil.rmtree(tmp_path / "run" / "fan@1" / "phase2_full")
    assert train_tiny(three, tmp_path / "run", "--only", "fan@0,fan@1", **words) == 2
    assert trained_in(tmp_path / "run") == ["fan@0", "fan@1"]
    assert "fan@0: left out: " in capsys.readouterr().err


@pytest.mark.usefixtures("standing_still")
@pytest.mark.parametrize("name", ["unparsed name.wav", "copied"])
def test_a_bad_name_costs_its_machine_type_only(name: str, three: Path, tmp_path: Path):
    shutil.copytree(three, tmp_path / "data")
    if name == "copied":
        shutil.copytree(three / "pump", tmp_path / "more" / "pump")
    else:
        (tmp_path / "data" / "pump" / "train" / name).touch()
    roots = f"{tmp_path / 'data'},{tmp_path / 'more'}" if name == "copied" else str(tmp_path / "data")
    assert train_tiny(Path(roots), tmp_path / "run", **SHORT) == 2
    assert trained_in(tmp_path / "run") == ["fan", "valve"]


@pytest.mark.usefixtures("standing_still")
def test_a_bad_clip_of_another_part_is_not_seen(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(three, tmp_path / "data")
    min((tmp_path / "data" / "pump" / "train").iterdir()).write_bytes(b"RIFF")
    assert train_tiny(tmp_path / "data", tmp_path / "run", "--only", "fan", **SHORT) == 0
    assert trained_in(tmp_path / "run") == ["fan"]
    assert "this part is trained; asdjax status" in capsys.readouterr().out


@pytest.mark.usefixtures("standing_still")
def test_a_run_that_another_process_trains_ends_with_again_after_the_others(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with locked_folder(tmp_path / "run" / "pump"):
        assert train_tiny(three, tmp_path / "run", **SHORT) == 75
    assert trained_in(tmp_path / "run") == ["fan", "valve"]
    assert "pump: another asdjax process is at work there; run the same command again" in capsys.readouterr().err
    assert not (tmp_path / "run" / "pump" / metric_log.FILE).exists()
    assert train_tiny(three, tmp_path / "run", **SHORT) == 0
    assert trained_in(tmp_path / "run") == sorted(MACHINES)


def test_a_run_that_diverges_is_left_out_of_its_program(
    three: Path, tmp_path: Path, standing_still: Callable[[str], None], capsys: pytest.CaptureFixture[str]
):
    standing_still("pump")
    assert train_tiny(three, tmp_path / "run", parallel__fleets_per_program="3", **SHORT) == 3
    assert trained_in(tmp_path / "run") == ["fan", "valve"]
    assert capsys.readouterr().err.splitlines()[-1] == "asdjax train: pump: no number"
    assert metric_log.read(tmp_path / "run" / "pump" / metric_log.FILE)[-1]["code"] == 3


def test_of_several_failures_again_comes_first_then_divergence():
    busy, bad, diverged = InUse("busy"), InputError("bad"), Diverged("no number", "c")
    raise_worst([])
    with pytest.raises(Interrupted, match=r"^a: another asdjax process"):
        raise_worst([(["b"], bad), (["c"], diverged), (["a"], busy)])
    with pytest.raises(Interrupted, match=r"to go on \(2 other runs failed\)$"):
        raise_worst([(["b"], bad), (["c"], diverged), (["a"], busy)])
    with pytest.raises(Diverged, match=r"^no number \(and 2 more of the runs failed\)$"):
        raise_worst([(["a", "b"], bad), (["c"], diverged)])


@pytest.mark.usefixtures("standing_still")
def test_a_second_configuration_is_refused_while_another_process_is_at_work(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    config = loading.load("dcase2021", {"data.root": str(three)})
    loading.make_absolute(config)
    run.mkdir()
    loading.save(config, run)
    with locked_folder(run / "pump"):
        assert train_tiny(three, run, "--only", "fan", **SHORT) == 2
    assert "the run there differs in " in capsys.readouterr().err
    assert train_tiny(three, run, "--only", "fan", **SHORT) == 0


@pytest.mark.parametrize("place", ["--workdir", "data.root", "data.store"])
def test_the_address_of_an_object_store_is_refused(
    place: str, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    address = "gs://bucket/w"
    if place == "--workdir":
        with pytest.raises(SystemExit) as ended:
            train_tiny(three, address)  # pyright: ignore[reportArgumentType]
        assert ended.value.code == 2
    else:
        words = {"data__store": address} if place == "data.store" else {}
        root = address if place == "data.root" else three
        assert train_tiny(root, tmp_path / "run", **words) == 2  # pyright: ignore[reportArgumentType]
    assert f"{address}: expected a folder on a disk, got an address; mount" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="got an address"):
        train(loading.load("dcase2021", {"data.root": "s3:/b"}), tmp_path / "run")


def count_operations(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> int:
    """Count the files opened, the folders listed and the paths looked at by an action."""
    number = 0

    def counted(function):
        def call(*args, **more):
            nonlocal number
            number += 1
            return function(*args, **more)

        return call

    with monkeypatch.context() as patch:
        for module, name in ((os, "stat"), (os, "scandir"), (os, "listdir"), (builtins, "open"), (os, "open")):
            patch.setattr(module, name, counted(getattr(module, name)))
        action()
    return number


@pytest.mark.parametrize("layout", ["folders", "manifest"])
def test_the_start_of_a_part_does_not_depend_on_the_number_of_machine_types(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The first part looks at all; a later one at its own machine types only."""
    counts = {}
    for number in (3, 30):
        root, workdir = tmp_path / f"data{number}", tmp_path / f"run{number}"
        workdir.mkdir()
        rows = ["path,machine,section,split"]
        for machine in range(number):
            folder = root / f"m{machine:02}" / "train"
            folder.mkdir(parents=True)
            for section in ("00", "01"):
                (folder / f"section_{section}_source_train_normal_0000.wav").touch()
                rows.append(
                    f"m{machine:02}/train/section_{section}_source_train_normal_0000.wav,m{machine:02},{section},train"
                )
        if layout == "manifest":
            (root / "manifest.csv").write_text("\n".join(rows) + "\n")
        config = loading.load("dcase2021", {"data.root": str(root), "data.layout": "auto"})

        def start(config=config, workdir=workdir):
            listed, _ = run_list.find_runs(config, workdir)
            (name,) = RunChoice(only=("m01",)).choose(list(listed.name_runs((0,))))
            found = scan_corpus(config, listed.layout, listed.name_runs((0,))[name])
            assert {clip.machine for clip in found.clips} == {"m01"}

        first = count_operations(monkeypatch, start)
        run_list.save(workdir, run_list.find_runs(config, workdir)[0])
        counts[number] = count_operations(monkeypatch, start)
        if layout == "folders":
            assert first > counts[number] + number
    assert counts[3] == counts[30] > 0


def test_a_new_machine_type_is_noticed(three: Path, tmp_path: Path):
    shutil.copytree(three, tmp_path / "data")
    config = loading.load("dcase2021", {"data.root": str(tmp_path / "data")})
    listed, _ = run_list.find_runs(config, None)
    run_list.save(tmp_path, listed)
    assert run_list.find_runs(config, tmp_path) == (listed, None)
    shutil.copytree(three / "fan", tmp_path / "data" / "gearbox")
    assert run_list.find_runs(config, tmp_path)[0].machines == ("fan", "gearbox", "pump", "valve")


@pytest.mark.slow
def test_two_parts_at_once_give_the_bits_of_one_process(three: Path, tmp_path: Path):
    config = str(PROJECT / "configs" / "dcase2021.py")
    code = with_these_networks("import sys\nfrom asdjax.cli.main import main\nsys.exit(main(sys.argv[1:]))")

    def start(workdir: Path, *words: str) -> subprocess.Popen:
        arguments = ["train", "--config", config, "--workdir", str(workdir), *words, *overrides(three)]
        return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=PROJECT)

    assert train_tiny(three, tmp_path / "one") == 0
    parts = [start(tmp_path / "two", "--part", f"{i}/2") for i in range(2)]
    assert [part.wait(300) for part in parts] == [0, 0]
    for machine in MACHINES:
        for line in ("phase1", "phase2_full", "phase2_last_block"):
            folders = [tmp_path / name / machine / line for name in ("one", "two")]
            last = {checkpoints.list_steps(folder)[-1] for folder in folders}
            assert len(last) == 1
            assert len({checkpoints.read_digest(folder, *last) for folder in folders}) == 1


def test_machine_types_of_unlike_clip_counts_leave_one_program_in_the_cache(tmp_path: Path):
    """In two processes, as two parts would."""
    for machine, clips in (("fan", 33), ("pump", 34)):
        recipe = Recipe(source_clips=clips, target_clips=0, test_clips=1, sections=2, seconds=2.0)
        synthesize(tmp_path / machine, recipe, machines=(machine,))
    config, cache = str(PROJECT / "configs" / "dcase2021.py"), tmp_path / "cache"
    for machine in ("fan", "pump"):
        words = ["train", "--config", config, "--workdir", str(tmp_path / "run"), "--only", machine]
        ran = python(
            "import sys\nfrom asdjax.cli.main import main\nsys.exit(main(sys.argv[1:]))",
            *words,
            *overrides(Path(f"{tmp_path / 'fan'},{tmp_path / 'pump'}"), phase1__steps="1", phase2__strategies="()"),
            env={"JAX_COMPILATION_CACHE_DIR": str(cache)},
        )
        assert ran.returncode == 0, ran.stderr
        programs = [file.name for file in cache.iterdir() if file.name.startswith("jit_run-") and "cache" in file.name]
        assert len(programs) == 1, machine
