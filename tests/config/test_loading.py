"""Tests of configurations from files and flags, and of the one that a work directory keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asdjax.config.fields import default_config, flatten_fields
from asdjax.config.loading import load, make_absolute, parse, read, require_same_run, save
from asdjax.errors import InputError

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.py"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_configuration_loads_by_path_and_by_name(file: Path) -> None:
    assert load(str(file), {}) == load(file.stem, {})


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("variants", "resnet50_512,mobilefacenet_512", ("resnet50_512", "mobilefacenet_512")),
        ("variants", "('resnet50_512','mobilefacenet_512')", ("resnet50_512", "mobilefacenet_512")),
        ("variants", "['resnet50_512']", ("resnet50_512",)),
        ("data.root", "dev data, eval_data", ("dev data", "eval_data")),
        ("data.root", "recordings (old)", ("recordings (old)",)),
        ("data.root", "2021_1,1e3", ("2021_1", "1e3")),
        ("phase2.strategies", "", ()),
        ("seed", "3", (3,)),
        ("seed", "1,2", (1, 2)),
        ("seed", "(1,2)", (1, 2)),
        ("phase1.epochs", "3", 3.0),
        ("optimizer.learning_rate", "1e-3", 1e-3),
        ("train.batch_size", "96", 96),
        ("phase1.steps", "60", 60),
        ("data.store", "1e3", "1e3"),
    ],
)
def test_a_flag_is_read_as_its_field_s_kind(field: str, text: str, value: Any) -> None:
    read_value = flatten_fields(load("dcase2021", {field: text}))[field]
    assert read_value == value
    assert type(read_value) is type(value)


def test_none_gives_the_length_of_phase_1_back_to_its_epochs() -> None:
    assert load("demo", {"phase1.steps": "None"}).phase1.steps is None


@pytest.mark.parametrize(
    ("field", "text", "complaint"),
    [
        ("nope", "1", "no such field; there are config.*config.data, .*config.train"),
        ("k", "1", "no such field; the nearest is config.evaluate.k$"),
        ("batch", "1", "no such field; the nearest are .*config.train.batch_size"),
        ("train.batchsize", "3", "no such field; the nearest are config.train.batch_size"),
        ("learning_rate", "3", "no such field; the nearest are .*config.optimizer.learning_rate"),
        ("train", "3", "is a group of fields; give one of them, such as config.train.batch_size"),
        ("train.batch_size", "4.5", "expected a whole number, got '4.5'; its default is 48"),
        ("train.batch_size", "many", "expected a whole number"),
        ("train.batch_size", "None", "expected a whole number"),
        ("width", "wide", "expected a number"),
        ("seed", "a", "expected whole numbers"),
        ("seed", "1.5", "expected whole numbers"),
        ("width", "True", "expected a number"),
        ("signal.value", "loud", "expected one of log"),
    ],
)
def test_a_flag_that_cannot_be_is_refused_by_its_field(field: str, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=rf"config\.{field}: .*{complaint}"):
        load("dcase2021", {field: text})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("config.seed = 1", "'seed'.*tuple"),
        ("config.train.batch_size = 2.5", "'batch_size'.*int"),
        ("config.width = None", r"config\.width"),
        ("config.train.batchsize = 2", r"config\.train\.batchsize"),
    ],
)
def test_a_file_s_mistake_is_told_with_its_field(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from asdjax.config.fields import default_config\n"
        f"def get_config():\n    config = default_config()\n    {line}\n    return config\n"
    )
    with pytest.raises(InputError, match=complaint):
        load(str(file), {})


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dcase2021, demo, own_machines"):
        load("dcase2012", {})
    (tmp_path / "notes.txt").write_text("config")
    with pytest.raises(InputError, match=r"expected a .py file, got"):
        load(str(tmp_path / "notes.txt"), {})
    (tmp_path / "empty.py").touch()
    with pytest.raises(InputError, match="get_config"):
        load(str(tmp_path / "empty.py"), {})


@pytest.mark.parametrize("name", [file.stem for file in CONFIGS])
def test_a_work_directory_gives_back_what_it_was_given(tmp_path: Path, name: str) -> None:
    config = load(name, {"seed": "1,2"})
    make_absolute(config)
    save(config, tmp_path)
    assert read(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize("content", [[1], {"train": 3}, {"width": "wide"}, {"seed": 5}, {"gone": 1}])
def test_what_holds_no_configuration_of_this_version_is_bad_input(content: Any) -> None:
    """An evaluation of another version may have fields of another kind, or fields that are gone."""
    with pytest.raises(InputError):
        parse(content)


def test_going_on_with_another_value_is_refused_by_its_field_and_changes_nothing(tmp_path: Path) -> None:
    save(default_config(), tmp_path)
    (tmp_path / "fan" / "phase1").mkdir(parents=True)
    (tmp_path / "fan" / "phase1" / "20.json").touch()
    before = (tmp_path / "config.json").read_bytes()
    other = load("dcase2021", {"optimizer.momentum": "0.5", "train.batch_size": "8"})
    with pytest.raises(InputError, match=r"optimizer\.momentum \(there 0\.9, now 0\.5\).*") as refusal:
        require_same_run(other, tmp_path)
    assert "train.batch_size" in str(refusal.value)
    assert "learning_rate" not in str(refusal.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_of_a_time_before_a_field_goes_on_with_its_default_only(begun: Callable[[str], Path]) -> None:
    file = begun("0") / "config.json"
    content = json.loads(file.read_text())
    del content["normalisation"]
    file.write_text(json.dumps(content))
    require_same_run(load("dcase2021", {"seed": "0"}), file.parent)
    other = load("dcase2021", {"seed": "0", "normalisation.running_variance": "unbiased"})
    with pytest.raises(InputError, match=r"normalisation\.running_variance \(there 'biased', now 'unbiased'\)"):
        require_same_run(other, file.parent)


def test_where_nothing_was_trained_another_value_is_free(tmp_path: Path) -> None:
    save(default_config(), tmp_path)
    require_same_run(load("dcase2021", {"optimizer.momentum": "0.5"}), tmp_path)


def test_going_on_with_another_cadence_or_evaluation_is_allowed_and_kept(tmp_path: Path) -> None:
    save(default_config(), tmp_path)
    free = {
        "train.checkpoint_every_steps": "5",
        "train.log_every_steps": "5",
        "data.root": "there",
        "train.keep": "3",
        "parallel.fleets_per_program": "3",
        "data.store": "elsewhere",
        "evaluate.k": "3",
        "baselines.epochs": "3",
    }
    config = load("dcase2021", free)
    require_same_run(config, tmp_path)
    save(config, tmp_path)
    assert read(tmp_path).train.checkpoint_every_steps == 5


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a work directory with a checkpoint trained with these seeds."""

    def begin(seeds: str) -> Path:
        save(load("dcase2021", {"seed": seeds}), tmp_path)
        (tmp_path / "fan" / "phase1").mkdir(parents=True)
        (tmp_path / "fan" / "phase1" / "20.json").touch()
        return tmp_path

    return begin


@pytest.mark.parametrize("now", ["1,2", "2,1", "1,2,3", "0,2,1"])
def test_seeds_may_be_added_to_several(begun: Callable[[str], Path], now: str) -> None:
    require_same_run(load("dcase2021", {"seed": now}), begun("1,2"))


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        ("1", "1,2", "folders of one seed are called <task>, of several <task>@<seed>"),
        ("1,2", "1", "folders of one seed are called <task>, of several <task>@<seed>"),
        ("1,2,3", "1,2", "seeds can be added, not taken away"),
        ("1,2", "2,3", "seeds can be added, not taken away"),
        ("1", "2", "a run with one seed keeps it"),
    ],
)
def test_other_seeds_are_refused_with_why_and_what_to_do(
    begun: Callable[[str], Path], then: str, now: str, why: str
) -> None:
    with pytest.raises(InputError, match="seed") as refusal:
        require_same_run(load("dcase2021", {"seed": now}), begun(then))
    assert f"has seed {then}, now {now}: {why}; give seed={then} to resume it" in str(refusal.value)


def test_own_recordings_are_converted_only_where_that_is_asked_for() -> None:
    assert load("own_machines", {}).data.on_mismatch == "error"


def test_after_training_the_evaluation_and_the_folders_may_change(tmp_path: Path) -> None:
    save(default_config(), tmp_path)
    config = read(tmp_path, {"evaluate.k": "3", "baselines.epochs": "5", "data.root": "a,b"})
    assert (config.evaluate.k, config.baselines.epochs) == (3, 5)
    assert config.data.root == tuple(str(Path(name).absolute()) for name in "ab")
    with pytest.raises(InputError, match=r"config\.width: expected a field that may change here"):
        read(tmp_path, {"width": "0.5"})
    with pytest.raises(InputError, match=r"config\.evaluate\.kk: no such field"):
        read(tmp_path, {"evaluate.kk": "3"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import nothing_of_the_kind", "ModuleNotFoundError"),
        ("import sys; sys.exit(5)", "SystemExit: 5"),
        (
            "from asdjax.config.fields import default_config as d\ndef get_config():\n c = d()\n c.trian.seed = 2",
            "trian",
        ),
        ("def get_config(): pass", "returns a ConfigDict, got NoneType"),
        (
            "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'width': 1.0})",
            "expected a value of config.arcface.margin_radians, got none; let get_config",
        ),
    ],
)
def test_a_mistake_in_the_user_s_file_is_told_by_that_file(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=f"mine.py: .*{complaint}"):
        load(str(tmp_path / "mine.py"), {})


WITH_ARGUMENT = """
from asdjax.config.fields import default_config

def get_config(size{default}):
    config = default_config()
    config.width = {{"small": 0.25, "a:b": 0.75}}.get(size, 0.5)
    return config
"""


def test_a_file_s_argument_is_passed_to_get_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WITH_ARGUMENT.format(default="='medium'"))
    assert load(f"{file}:small", {}).width == 0.25
    assert load(f"{file}:a:b", {}).width == 0.75
    assert load(str(file), {}).width == 0.5


def test_a_file_whose_name_holds_a_colon_is_found(tmp_path: Path) -> None:
    file = tmp_path / "mine.py:2.py"
    file.write_text(WITH_ARGUMENT.format(default="='medium'"))
    assert load(str(file), {}).width == 0.5


@pytest.mark.parametrize("config", ["demo", "configs/demo.py"])
def test_an_argument_that_get_config_does_not_take_is_refused(config: str) -> None:
    with pytest.raises(
        InputError, match=r"demo\.py: expected no argument.*, got 'small'; leave :small out of the name$"
    ):
        load(f"{config}:small", {})


def test_an_argument_that_get_config_needs_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WITH_ARGUMENT.format(default=""))
    assert load(f"{file}:small", {}).width == 0.25
    with pytest.raises(InputError, match=r"expected an argument.*, got none; give .*mine\.py:ARGUMENT$"):
        load(str(file), {})


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 3}', '{"width": "wide"}', '{"width": null}', '{"with": 1}'])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="config"):
        read(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: expected the configuration of .*; give the work directory"):
        read(tmp_path)
