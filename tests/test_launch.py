"""Launcher launch/local: the real configuration, shrunk, from a corpus to evaluated score files; parts at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DEEP, PROJECT, overrides

LOCAL = PROJECT / "launch" / "local"


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    """Run launch/local with this environment's `asdjax` on the PATH."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run([LOCAL, *words], env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_dcase2021_shrunk_trains_two_steps_of_each_phase_and_is_evaluated(corpus: Path, tmp_path: Path):
    config = str(PROJECT / "configs" / "dcase2021.py")
    shrunk = overrides(corpus, width=str(DEEP), phase1__steps="2", phase2__steps="2", phase2__strategies="full")
    ran = launch(config, str(tmp_path / "run"), *shrunk)
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "fan" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["step"]) for row in rows if "loss" in row] == [
        ("phase1", 1),
        ("phase1", 2),
        ("phase2_full", 1),
        ("phase2_full", 2),
    ]
    results = json.loads((tmp_path / "run" / "evaluation" / "dev" / "results.json").read_text())
    assert results["checkpoints"] == {"fan/phase2_full": 2}
    assert "all_mean" in ran.stdout


def test_a_failure_is_not_followed_by_an_evaluation(tmp_path: Path):
    ran = launch(str(tmp_path / "nowhere.py"), str(tmp_path / "run"))
    assert ran.returncode == 2
    assert "asdjax train:" in ran.stderr
    assert "asdjax evaluate:" not in ran.stderr


def test_without_arguments_it_tells_its_usage():
    ran = launch()
    assert ran.returncode == 2
    assert "launch/local CONFIG WORKDIR" in ran.stderr


#: Stands for `asdjax`: logs its words and its GPU, and ends with the code that $CODES has for its part.
FAKE = """#!/usr/bin/env bash
echo "${CUDA_VISIBLE_DEVICES:-} $*" >>"$LOG"
[ "$1" = train ] || exit 0
[ "$CODES" != sleep ] || { trap 'exit 75' USR1; trap '' TERM; while :; do sleep 0.1; done; }
codes=($CODES) part=${*: -1}
exit "${codes[${part%/*}]}"
"""


def start_fake(tmp_path: Path, codes: str, processes: str) -> subprocess.Popen[str]:
    fake = tmp_path / "bin" / "asdjax"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{fake.parent}:{os.environ['PATH']}",
        "CODES": codes,
        "LOG": str(tmp_path / "log"),
        "PROCESSES": processes,
    }
    words = [LOCAL, "dcase2021", "run dir", "--config.data.root=a b"]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("codes", "expected"), [("0 0", 0), ("2 75", 75), ("2 3", 3), ("3 1", 1), ("137 75", 75), ("0 2", 2)]
)
def test_processes_train_parts_at_once_and_the_gravest_code_counts(codes: str, expected: int, tmp_path: Path):
    with start_fake(tmp_path, codes, "2") as process:
        assert process.wait(60) == expected
    lines = (tmp_path / "log").read_text().splitlines()
    words = "train --config dcase2021 --workdir run dir --config.data.root=a b --part"
    assert sorted(lines[:2]) == [f"0 {words} 0/2", f"1 {words} 1/2"]
    parts = ["0 evaluate --workdir run dir --part 0/2", "1 evaluate --workdir run dir --part 1/2"]
    assert sorted(lines[2:4]) == ([] if expected else parts)
    assert [line.strip() for line in lines[4:]] == ([] if expected else ["evaluate --workdir run dir"])


def test_a_signal_reaches_every_part(tmp_path: Path):
    with start_fake(tmp_path, "sleep", "3") as process:
        for _ in range(600):
            if (tmp_path / "log").exists() and len((tmp_path / "log").read_text().splitlines()) == 3:
                break
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75


def test_an_impossible_number_of_processes_is_refused(tmp_path: Path):
    with start_fake(tmp_path, "0", "two") as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "PROCESSES=two: expected a number from 1 on\n")


def test_reproduce_unpacks_once_trains_three_seeds_and_compares(tmp_path: Path):
    """With a stand-in for `asdjax`, which logs its words and makes the folder of a download."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "asdjax"
    fake.write_text(
        '#!/usr/bin/env bash\necho "$*" >>"$LOG"\n[ "$1" = download ] && mkdir -p "${@: -1}/dev_data"\nexit 0\n'
    )
    fake.chmod(0o755)
    run, log = tmp_path / "run", tmp_path / "log"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log)}
    command = [PROJECT / "launch" / "reproduce", str(tmp_path / "zips"), str(run), "--config.width=0.1"]
    for _ in range(2):
        assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    words = [
        f"train --config dcase2021 --workdir {run} --config.seed=0,1,2 --config.data.root={run}/recordings/dev_data "
        "--config.width=0.1",
        f"evaluate --workdir {run}",
        f"compare --workdir {run}",
    ]
    download = f"download --zips {tmp_path / 'zips'} --out {run}/recordings"
    assert log.read_text().splitlines() == [download, *words, *words]
    assert subprocess.run([command[0]], capture_output=True).returncode == 2
