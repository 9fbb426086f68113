"""The commands and the Python of README.md, run as a reader would, and from an installed wheel."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from conftest import DEEP, PROJECT, RECIPE, TINY

import asdjax
from asdjax.cli import main as command_line
from asdjax.cli.main import main
from asdjax.data.synthetic.synthesis import synthesize

BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
MANIFEST = next(text for _, text in BLOCKS if text.startswith("path,machine"))
DEMO_PYTHON, OWN_PYTHON = (text for language, text in BLOCKS if language == "python")

#: A fleet of seconds. A README's command gets these as flags, its Python as overrides.
SMALL = TINY | {"phase1.steps": "2", "phase2.steps": "1"}


def commands(section: str) -> list[list[str]]:
    """Return the `uv run asdjax` commands of the block that has a text, without `uv run asdjax` and comments."""
    block = next(text for _, text in BLOCKS if section in text)
    found = [line.partition("uv run asdjax ")[2].partition("#")[0] for line in block.splitlines()]
    return [shlex.split(command) for command in found if command]


def run(words: Sequence[str]) -> None:
    small = [f"--config.{field}={value}" for field, value in SMALL.items()] if words[0] == "train" else []
    assert main([*words, *small]) == 0, words


def run_python(code: str) -> None:
    """Run a block of the README with a small fleet for `asdjax.train`."""

    def train(config: str, *, workdir: str, overrides: dict[str, str]) -> Path:
        return asdjax.train(config, workdir=workdir, overrides=SMALL | overrides)

    functions = {name: getattr(asdjax, name) for name in asdjax.__all__}
    exec(code.replace("import asdjax\n", ""), {"asdjax": SimpleNamespace(**functions | {"train": train})})


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader: the README's manifest, and more normal clips of both units."""
    synthesize(tmp_path / "pump", replace(RECIPE, source_clips=8), machines=("pump",))
    normal = sorted(tmp_path.glob("pump/pump/train/*.wav"))
    folder = tmp_path / "recordings"
    rows = MANIFEST.splitlines()
    rows += [f"line1/more_{i:04d}.wav,pump,unit{1 + i % 2},source,train,normal," for i in range(8)]
    rows += [f"line1/test_{i:04d}.wav,pump,unit{1 + i % 2},source,test,normal," for i in range(4)]
    (folder / "line1").mkdir(parents=True)
    for i, row in enumerate(rows[1:]):
        shutil.copy(normal[i], folder / row.split(",")[0])
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(normal[-1], tmp_path / "new.wav")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_your_own_recordings(recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(soundfile.read("new.wav", dtype="int16")[0].tobytes()))
    )
    for words in commands("--config own_machines"):
        run(words)
    assert Path("run/evaluation/dev/report.html").exists()
    assert any(Path("pump-detector").iterdir())
    capsys.readouterr()
    run_python(OWN_PYTHON)
    assert "all_mean" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
def test_the_report_s_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    for seed, folder in enumerate(("dcase/dev_data", "dcase/eval_data")):
        synthesize(tmp_path / folder, replace(RECIPE, seed=seed), machines=("pump",))
    for clip in Path("dcase/eval_data").rglob("section_*.wav"):  # the evaluation set has sections of its own
        clip.rename(clip.with_name(clip.name.replace("section_0", "section_3")))
    download, *others = commands("--config dcase2021 --config.data.root")
    assert command_line._make_parser().parse_args(download).year == 2021
    for words in others:
        run(words)
    assert "official score 2021" in capsys.readouterr().out


@pytest.mark.usefixtures("shallow")
def test_the_detector_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    synthesize(Path("asdjax-demo/data"), RECIPE, machines=("gearbox",))
    asdjax.train("demo", workdir="asdjax-demo", overrides=SMALL | {"data.root": "asdjax-demo/data"})
    asdjax.evaluate("asdjax-demo")
    capsys.readouterr()
    run_python(DEMO_PYTHON)
    score, threshold, *_ = capsys.readouterr().out.split()
    assert float(score) > 0
    assert float(threshold) > 0


def test_every_other_command_has_the_flags_that_the_readme_gives():
    text = (PROJECT / "README.md").read_text()
    parser = command_line._make_parser()
    for command in re.findall(r"`asdjax (plan [^`]*)`", text) + ["demo"]:
        assert f"asdjax {command}" in text
        assert parser.parse_args(shlex.split(command)).run


@pytest.mark.slow
def test_a_wheel_trains_by_the_name_of_a_configuration(tmp_path: Path):
    """Installed into a folder of its own, away from the clone."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    for words in (
        ["uv", "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(PROJECT)],
        ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(site)],
    ):
        subprocess.run([*words, *map(str, wheels.glob("*.whl"))], check=True, cwd=tmp_path)
    synthesize(tmp_path / "data", RECIPE, machines=("pump",))
    small = SMALL | {"width": DEEP, "data.root": str(tmp_path / "data")}
    code = f"""
import asdjax
asdjax.train("dcase2021", workdir="run", overrides={small})
results = asdjax.evaluate("run")
print(asdjax.__file__, results.systems["all_mean"].official)
"""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    home, official = ran.stdout.splitlines()[-1].split()
    assert Path(home).is_relative_to(site)
    assert 0 <= float(official) <= 1
