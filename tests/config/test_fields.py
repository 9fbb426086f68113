"""Tests of the fields: defaults, rules, the table in configs/README.md, and numbers that follow from the fields."""

import subprocess
import sys
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from conftest import PROJECT

from asdjax.config import fields as config_module
from asdjax.config.field_table import HEADER, replace_table
from asdjax.config.fields import FIELDS, count_phase1_steps, default_config, flatten_fields, list_evaluated_lines
from asdjax.config.loading import load
from asdjax.config.validation import validate
from asdjax.data.audio import OnMismatch
from asdjax.data.clips import Layout
from asdjax.data.tasks import CLASSES
from asdjax.errors import InputError
from asdjax.features import POOLS, VALUES
from asdjax.inference.ensembles import NORMALISERS
from asdjax.models import variants
from asdjax.training.optimizer import TRAINABLE

REPORT = {  # Table 3, and the lengths in section 2.4
    "signal.sample_rate_hz": 16_000,
    "signal.n_fft": 2046,
    "signal.hop_samples": 512,
    "arcface.margin_radians": 0.05,
    "arcface.scale": 30.0,
    "optimizer.learning_rate": 0.05,
    "mixup.max_weight": 0.5,
    "train.batch_size": 48,
    "evaluate.k": 10,
    "phase1.epochs": 250.0,
    "phase1.steps": None,
    "phase2.steps": 5000,
    "width": 1.0,
}


def test_the_main_configuration_is_the_report_s() -> None:
    config = load("configs/dcase2021.py", {})
    fields = flatten_fields(config)
    assert {field: fields[field] for field in REPORT} == REPORT
    assert len(config.variants) == 6
    assert count_phase1_steps(config, source_clips=6000) == 31_250


def test_the_six_names_are_the_six_variants() -> None:
    assert config_module.VARIANTS == variants.VARIANTS


def test_the_readme_s_table_is_the_generated_one() -> None:
    text = (PROJECT / "configs" / "README.md").read_text()
    assert text == replace_table(text)
    before, _, table = text.partition(HEADER)
    assert before.count("\n") <= 40
    assert all(f"| `{field}` |" in table for field in flatten_fields(default_config()))


def test_every_default_keeps_its_own_rule_and_every_field_has_a_meaning() -> None:
    validate(default_config())
    assert [name for name, spec in FIELDS.items() if not (spec.meaning and spec.source)] == []


def test_configurations_do_not_import_jax() -> None:
    code = "import sys, asdjax.config.loading; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("field", "several", "known"),
    [
        ("phase2.strategies", True, TRAINABLE),
        ("signal.value", False, VALUES),
        ("signal.pool", False, POOLS),
        ("data.classes", False, ("auto", *CLASSES)),
        ("data.layout", False, ("auto", *get_args(Layout))),
        ("data.on_mismatch", False, get_args(OnMismatch)),
        ("evaluate.ensemble", False, NORMALISERS),
    ],
)
def test_a_choice_offers_what_the_code_knows(field: str, several: bool, known: Iterable[str]) -> None:
    validate(changed(field, tuple(known) if several else [*known][-1]))
    with pytest.raises(InputError, match=rf"{field}: expected .* of {', '.join(known)}, got 'x'"):
        validate(changed(field, ("x",) if several else "x"))


def test_phase_1_lasts_its_epochs_rounded_up_unless_steps_are_given() -> None:
    config = changed("phase1.epochs", 1.5)
    assert count_phase1_steps(config, source_clips=100) == 4  # 150 pieces, 48 a step
    config.train.batch_size = 7
    config.phase1.epochs = 0.07
    assert count_phase1_steps(config, source_clips=100) == 1  # in floats the product is 7.000000000000001
    config.phase1.steps = 7
    assert count_phase1_steps(config, source_clips=100) == 7


def test_the_first_strategy_is_evaluated_unless_lines_are_named() -> None:
    assert list_evaluated_lines(changed("phase2.strategies", ("backbone", "full"))) == ("phase2_backbone",)
    assert list_evaluated_lines(changed("phase2.strategies", ())) == ("phase1",)
    assert list_evaluated_lines(changed("evaluate.lines", ("phase1", "phase2_full"))) == ("phase1", "phase2_full")


def changed(field: str, value: Any) -> Any:
    """Return the defaults with another value of one field, unvalidated."""
    config: Any = default_config()
    *parents, leaf = field.split(".")
    branch = config[".".join(parents)] if parents else config
    branch[leaf] = value
    return config


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("data.layout", "dcase2019", "expected one of auto, dcase2020"),
        ("signal.value", None, "expected a value such as 'log'"),
        ("train.batch_size", None, "expected a value such as 48"),
        ("variants", ("resnet18_1024",), "expected any of mobilefacenet_1024"),
        ("variants", ("resnet50_512",) * 2, "expected each once"),
        ("variants", (), "at least one"),
        ("seed", (), "at least one"),
        ("seed", (1, 1), "expected each once"),
        ("seed", ("a",), "values of kind int"),
        ("data.channel", "0", "expected mean or a number from 1"),
        ("data.channel", "left", "expected mean or a number from 1"),
        ("seed", (2**32,), "expected 0 to 4294967295"),
        ("evaluate.lines", ("phase1", "phase1"), "expected each once"),
        ("train.batch_size", True, "expected a value such as 48, got True"),
        ("data.root", (3,), "values of kind str"),
        ("train.batch_size", 0, "above 0"),
        ("optimizer.learning_rate", float("nan"), "above 0"),
        ("optimizer.step_at", (0.5, 1.5), "expected shares between 0 and 1, got 1.5"),
        ("phase1.epochs", float("inf"), "above 0"),
        ("phase1.steps", -1, "above 0"),
        ("phase1.steps", 10**24, "10000000 at most"),
        ("phase1.epochs", 1e308, "10000000 at most"),
        ("phase2.learning_rate.full", 0.0, "above 0"),
        ("train.batch_size", 10**21, "1000000 at most"),
        ("arcface.subcentres", 10**9, "1000 at most"),
        ("mixup.max_weight", 0.6, "0 to 0.5"),
        ("arcface.margin_radians", 2.9, "0 to 1.5"),
        ("signal.n_fft", 2045, "expected an even number above 0"),
        ("signal.n_fft", 2048, "gives 1025 bins"),
        ("signal.n_fft", 1022, "to be a multiple of 1024 for variants of that height, got 1022, which gives 512 bins"),
        ("evaluate.lines", ("phase2_backbone",), "expected any of phase1, phase2_full"),
        ("train.batchsize", 3, "no such field; the nearest are config.train.batch_size"),
    ],
)
def test_a_value_that_no_run_could_use_is_refused_by_its_field(field: str, value: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=rf"config\.{field}: .*{complaint}"):
        validate(changed(field, value))


def test_half_the_bins_serve_the_lower_variants_alone() -> None:
    config = changed("signal.n_fft", 1022)
    config.variants = ("resnet50_512", "mobilefacenet_512")
    validate(config)
