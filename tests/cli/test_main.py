"""Command line: arguments, error messages and exit codes."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, python, train_tiny

from asdjax.cli import commands_evaluate
from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.errors import Diverged, InputError, Interrupted

COMMANDS = (
    "demo", "synthesize", "download", "check", "plan", "parts", "train", "status",
    "evaluate", "compare", "score", "listen", "accept", "report", "export", "metrics", "bench",
)  # fmt: skip


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run a command that raises an error, and return its exit code."""

    def run(_):
        raise error

    monkeypatch.setattr(commands_evaluate, "_evaluate", run)
    return main(["evaluate", "--workdir", "w", *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: asdjax {command}" in capsys.readouterr().out


def test_help_names_the_commands_and_exit_codes_without_importing_jax():
    code = """
import sys
from asdjax.cli.main import main
try:
    main(["--help"])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
    ran = python(code)
    assert ran.returncode == 0
    modules = [name.split(".") for name in ran.stderr.split()]
    packages = {name for name, *_ in modules} - sys.stdlib_module_names - {"__main__"}
    assert packages == {"asdjax", "tqdm"}
    assert {path[1] for path in modules if path[0] == "asdjax" and path[1:]} == {"cli", "errors", "runtime"}
    assert set(re.findall(r"^    (\w+)", ran.stdout, re.MULTILINE)) == set(COMMANDS)
    assert "75 stopped by SIGTERM or Ctrl-C" in " ".join(ran.stdout.split())


def test_the_installed_command_answers():
    ran = subprocess.run([Path(sys.executable).with_name("asdjax"), "--version"], capture_output=True, text=True)
    assert ran.returncode == 0
    assert ran.stdout.startswith("asdjax ")


def test_a_reader_that_has_had_enough_is_no_error(shared_data: Path):
    scores = next(iter((shared_data / "official").rglob("anomaly_score_*_section_00_source_test.csv"))).parent
    asdjax = Path(sys.executable).with_name("asdjax")
    words = [asdjax, "metrics", "--year", "2021", "--scores", scores]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_without_a_reader_of_messages_the_exit_code_is_what_it_is(tmp_path: Path):
    words = [Path(sys.executable).with_name("asdjax"), "check", "--config", "dcase2021"]
    words += [f"--config.data.root={tmp_path / 'nowhere'}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 2


def test_a_name_that_the_terminal_cannot_show_is_shown_escaped(tmp_path: Path):
    home = tmp_path / "fan" / "train"
    home.mkdir(parents=True)
    (home / os.fsdecode(b"section_00_source_train_normal_0_\xff.wav")).write_bytes(b"")
    words = [Path(sys.executable).with_name("asdjax"), "check", "--config", "dcase2021"]
    words += [f"--config.data.root={tmp_path}"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ran = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert r"section_00_source_train_normal_0_\udcff.wav" in ran.stdout
    assert ran.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_standard_streams_may_be_closed(closed: str):
    asdjax = Path(sys.executable).with_name("asdjax")
    ran = subprocess.run(["sh", "-c", f"exec '{asdjax}' --version {closed}"], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["train"], ["evaluate", "--workdir", "w", "--split", "test"]])
def test_bad_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("--help lists what it takes")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("corpus:\n  not there"), 2, "asdjax evaluate: corpus: not there"),
        (InputError("two  spaces/a.wav: not there"), 2, "asdjax evaluate: two  spaces/a.wav: not there"),
        (Interrupted("stopped at step 3"), 75, "asdjax evaluate: stopped at step 3"),
        (
            OSError(errno.ENOSPC, "No space left on device", "w/a.csv"),
            2,
            "asdjax evaluate: w/a.csv: No space left on device; free some space, or choose another folder",
        ),
        (
            OSError("49536 requested and 9184 written"),
            2,
            "asdjax evaluate: the disk: No space left on device; free some space, or choose another folder",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "x"),
            1,
            "asdjax evaluate: FileNotFoundError: [Errno 2] No such file: 'x' (--debug shows where)",
        ),
        (Diverged("no number"), 3, "asdjax evaluate: no number"),
        (RuntimeError("odd"), 1, "asdjax evaluate: RuntimeError: odd (--debug shows where)"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert failing(error, monkeypatch) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{message}\n")


@pytest.mark.parametrize("error", [InputError("x"), RuntimeError("x"), Interrupted("x")])
def test_debug_raises(error: Exception, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(type(error), match="x"):
        failing(error, monkeypatch, "--debug")
    with pytest.raises(type(error), match="x"):
        main(["--debug", "evaluate", "--workdir", "w"])


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return a dict that `train` fills with its configuration instead of training."""
    from asdjax.training import train

    seen = {}
    monkeypatch.setattr(train, "train", lambda config, workdir, choice: seen.update(config.to_dict()))
    return seen


@pytest.mark.parametrize("joined", [True, False])
def test_overrides_in_both_spellings(joined: bool, loaded: dict):
    values = {"train.batch_size": "96", "variants": "resnet50_512,resnet50_1024", "phase2.strategies": "('full',)"}
    pairs = [(f"--config.{field}", value) for field, value in values.items()]
    words = [f"{field}={value}" for field, value in pairs] if joined else [word for pair in pairs for word in pair]
    assert main(["train", "--config", "dcase2021", *words, "--workdir", "w"]) == 0
    assert loaded["train"]["batch_size"] == 96
    assert loaded["variants"] == ("resnet50_512", "resnet50_1024")
    assert loaded["phase2"]["strategies"] == ("full",)


@pytest.mark.parametrize("words", [["--config.seed", "--workdir", "w"], ["--workdir", "w", "--config.seed"]])
def test_an_override_without_a_value_is_named(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--config", "dcase2021", *words])
    assert ended.value.code == 2
    assert "--config.seed: expected a value, got none" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--deb", "evaluate"], ["evaluate", "--work", "w"], ["bench", "--deb", "knn"]])
def test_options_are_not_abbreviated(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "no such flag; the nearest is --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--worksdir=w"], "asdjax train: --worksdir: no such flag; the nearest is --workdir"),
        (["bench", "train", "--bach", "8"], "asdjax bench train: --bach: no such flag; the nearest is --batch"),
        (["--versio"], "asdjax: --versio: no such flag; the nearest is --version"),
        (["trian", "--config", "demo"], "asdjax: trian: no such command; the nearest is train"),
        (["--debug", "experts"], "asdjax: experts: no such command; the nearest are export, parts"),
    ],
)
def test_a_misspelt_word_is_named_with_the_nearest(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--processes 2", "--processes, --process and --coordinator: expected all three, got one or two; give all"),
        ("--process 0", "--processes, --process and --coordinator: expected all three, got one or two; give all"),
        ("--processes 2 --process 2 --coordinator a:1", "--process: expected a number from 0 to 1, got 2"),
        ("--processes auto --process 1", "--processes auto: expected neither --process nor --coordinator, got one"),
        ("--processes auto", "--processes auto: expected that JAX finds the other processes, got: "),
        ("--processes 0", "argument --processes: expected a number from 1 on, got '0'"),
        ("--processes 2 --process x", "argument --process: expected a number from 0 on, got 'x'"),
        (
            "--processes 2 --process 1 --coordinator a",
            "argument --coordinator: expected HOST:PORT with a port from 1 to 65535, got 'a'",
        ),
        (
            "--processes 2 --process 1 --coordinator a:0",
            "argument --coordinator: expected HOST:PORT with a port from 1 to 65535, got 'a:0'",
        ),
    ],
)
def test_wrong_flags_for_several_processes_are_refused(flags: str, message: str, tmp_path: Path):
    words = ["train", "--config", "demo", "--workdir", str(tmp_path / "w"), *flags.split()]
    begin = "import os, sys\nos.environ.pop('KUBERNETES_SERVICE_HOST', None)\n"  # of a cluster that this may run on
    code = f"{begin}from asdjax.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    ran = python(code, *words)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert message in ran.stderr
    assert not (tmp_path / "w").exists()


def test_the_value_of_a_misplaced_flag_is_not_taken_for_a_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--workdir", "report-1", "train", "--config", "demo"])
    assert capsys.readouterr().err.startswith("asdjax: --workdir: no such flag")


def test_metrics_that_could_not_be_written_are_not_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--scores", str(tmp_path / "nowhere"), "--json", str(tmp_path / "nowhere" / "f.json")]
    assert main(["metrics", "--year", "2021", *words]) == 2
    assert "f.json: cannot be written" in capsys.readouterr().err


def test_an_override_before_the_command_counts_too(loaded: dict):
    assert main(["--config.seed=1,2", "train", "--config=dcase2021", "--workdir=w"]) == 0
    assert loaded["seed"] == (1, 2)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--config.train.batchsize=96",
            "config.train.batchsize: no such field; the nearest are config.train.batch_size",
        ),
        ("--config.train.batch_size=many", "config.train.batch_size: expected a whole number, got 'many'"),
        ("--config.train.batch_size=0", "config.train.batch_size: expected a number above 0, 1000000 at most, got 0"),
        ("--config.variants=vgg_512", "config.variants: expected any of mobilefacenet_1024"),
    ],
)
def test_a_field_or_value_that_is_none_is_refused(
    word: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", "--config", "dcase2021", "--workdir", str(tmp_path / "w"), word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "w").exists()


def test_commands_without_a_configuration_take_no_overrides(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["metrics", "--year", "2021", "--scores", "w", "--config.evaluate.k=3"])
    assert ended.value.code == 2
    assert "metrics takes no configuration" in capsys.readouterr().err


def test_a_corpus_that_is_not_there_is_refused_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train_tiny(tmp_path / "nowhere", tmp_path / "w") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "nowhere") in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["v[1]", "v*", "v?", "a[b]/v"])
@pytest.mark.parametrize("command", ["train", "demo"])
def test_a_work_directory_that_orbax_would_take_for_a_pattern_is_refused(
    command: str, name: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir = tmp_path / name
    if command == "train":
        assert train_tiny(corpus, workdir) == 2
    else:
        assert main(["demo", "--workdir", str(workdir)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"asdjax {command}: workdir {workdir}: expected a path without * ? [ (Orbax, ")
    assert line.endswith("; choose another")
    assert list(tmp_path.iterdir()) == []


def test_a_demo_in_another_run_s_work_directory_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    loading.save(loading.load("dcase2021", {}), tmp_path)
    checkpoint = tmp_path / "fan" / "phase1" / "4.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    there = sorted(tmp_path.rglob("*"))
    assert main(["demo", "--workdir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the run there differs in" in line
    assert sorted(tmp_path.rglob("*")) == there


def test_where_the_user_is_counts_too(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "here[1]").mkdir()
    monkeypatch.chdir(tmp_path / "here[1]")
    assert train_tiny(corpus, Path("run")) == 2
    assert f" {tmp_path / 'here[1]' / 'run'}; choose another" in capsys.readouterr().err


def test_check_lists_a_corpus(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--config", str(PROJECT / "configs" / "dcase2021.py"), f"--config.data.root={corpus}"]
    assert main(["check", *words, "--json", str(tmp_path / "check.json")]) == 0
    assert "fan" in capsys.readouterr().out
    assert json.loads((tmp_path / "check.json").read_text())
    assert main(["check", *words, "--json", str(tmp_path / "no" / "check.json")]) == 2
    assert "--json" in capsys.readouterr().err


def test_synthesize_writes_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--machines", "valve", "--sections", "1", "--seconds", "1.5", "--source-clips", "2", "--test-clips", "1"]
    assert main(["synthesize", "--out", str(tmp_path / "c"), *words]) == 0
    assert capsys.readouterr().out == f"9 clips in {tmp_path / 'c'}\n"
    assert len(list((tmp_path / "c" / "valve").rglob("*.wav"))) == 9
    assert main(["synthesize", "--out", str(tmp_path / "d"), "--seconds", "0.1"]) == 2
    assert "too short" in capsys.readouterr().err
