"""Launcher launch/slurm on a Slurm of two nodes, which this test starts on this machine and stops again."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, overrides, train_tiny, with_these_networks

from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.fleet import checkpoints, metric_log

DAEMONS = ("munged", "slurmctld", "slurmd")
MISSING = [name for name in DAEMONS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]

pytestmark = [
    pytest.mark.usefixtures("shallow"),
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: apt-get install slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a Slurm whose user is root"),
]

ONE_PART = "[ $1 != parts ] || { echo 1; exit; }"
MACHINES = ("fan", "pump", "valve")
CHANGES = {"phase1__steps": "300", "phase2__steps": "10", "phase2__strategies": "full"}

# A requeued job waits until the credential of its last start has expired: after five seconds instead of two minutes.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def call(*words: str, **more: str) -> str:
    environment = {**os.environ, **more}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
    return ran.stdout


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of two nodes of two processors, idle."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    key, socket_file = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        munge = [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
        call("munged", "--force", f"--socket={socket_file}", f"--key-file={key}", *munge)
        try:
            call("slurmctld")
            for node in ("n1", "n2"):
                (folder / f"spool.{node}").mkdir()
                call("slurmd", "-N", node)
            wait_for(lambda: call("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"])
            yield
            call("scancel", "--user=root")
        finally:
            for file in ("slurmctld.pid", "slurmd.n1.pid", "slurmd.n2.pid", "pid"):
                if (folder / file).exists():
                    os.kill(int((folder / file).read_text()), 15)


def wait_for(done: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, call("squeue")
        time.sleep(0.5)


def are_jobs_ended() -> bool:
    return not call("squeue", "-h")


def read_jobs(numbers: list[str]) -> list[dict[str, str]]:
    """Return what Slurm knows of some jobs: of an array each of its tasks, by its number."""
    jobs = [
        dict(field.partition("=")[::2] for field in line.split())
        for line in call("scontrol", "show", "job", "-o").splitlines()
    ]
    found = [job for job in jobs if job.get("ArrayJobId", job["JobId"]) in numbers]
    return sorted(found, key=lambda job: job.get("ArrayTaskId", "0"))


def make_command(folder: Path, line: str) -> str:
    """Make a command `asdjax` of one shell line; return a PATH that finds it first."""
    folder.mkdir()
    (folder / "asdjax").write_text(f"#!/usr/bin/env bash\n{line}\n")
    (folder / "asdjax").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def make_asdjax(folder: Path) -> str:
    """Make a command `asdjax` with the networks of this test; return a PATH that finds it first."""
    code = with_these_networks("from asdjax.__main__ import command; command()")
    return make_command(folder, f'exec {shlex.join([sys.executable, "-c", code])} "$@"')


def submit(workdir: Path, path: str, *words: str, **values: str) -> dict[str, list[str]]:
    """Return the numbers of the submitted jobs: those that train, score and gather."""
    config = str(PROJECT / "configs" / "dcase2021.py")
    more = {"PATH": path, "WARM_UP_MINUTES": "0", "SBATCH": "--cpus-per-task=2", **values}
    printed = call(str(PROJECT / "launch" / "slurm"), config, str(workdir), *words, **more)
    found = re.fullmatch(r"parts: \d+; jobs: train ([\d ]+), score ([\d-]+), gather (\d+); logs: .*\n", printed)
    assert found, printed
    return {name: numbers.split() for name, numbers in zip(("train", "score", "gather"), found.groups(), strict=True)}


def refuse(workdir: Path, path: str, **values: str) -> str:
    """Return what a launch prints that submits no job."""
    config, environment = str(PROJECT / "configs" / "dcase2021.py"), {**os.environ, "PATH": path, **values}
    words = [str(PROJECT / "launch" / "slurm"), config, str(workdir)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode != 0, ran.stdout) == (True, "")
    return ran.stderr


def test_jobs_before_one_that_slurm_refuses_are_cancelled(tmp_path: Path):
    path = make_command(tmp_path / "bin", "[ $1 != parts ] || { echo 3; exit; }\nsleep 60")
    workdir, begun = tmp_path / "run 50 %A", call("squeue", "-h")
    assert "WARM_UP_MINUTES=x: expected" in refuse(workdir, path, DEVICES="2", WARM_UP_MINUTES="x")
    printed = refuse(workdir, path, DEVICES="2", SBATCH="--hold --reservation=none")
    assert "sbatch: error" in printed
    # Slurm takes the first, and refuses the array after it, which asks for a delay that is no number
    script = PROJECT / "launch" / "slurm"
    broken = tmp_path / "slurm"
    broken.write_text(script.read_text().replace("warm=after:$trained", "warm=after:$trained+x"))
    broken.chmod(0o755)
    environment = {**os.environ, "PATH": path, "DEVICES": "2"}
    words = [str(broken), "dcase2021", str(workdir)]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "cancelled" in ran.stderr
    wait_for(are_jobs_ended)
    assert begun == call("squeue", "-h")


def test_a_second_launch_in_the_same_work_directory_waits_its_turn(tmp_path: Path):
    path = make_command(tmp_path / "bin", f"{ONE_PART}\nsleep 60")
    numbers = submit(tmp_path / "run", path, DEVICES="1")
    printed = refuse(tmp_path / "run", path, DEVICES="1")
    assert f"jobs {numbers['train'][0]} {numbers['gather'][0]} are at work there" in printed
    call("scancel", *numbers["train"], *numbers["gather"])
    wait_for(are_jobs_ended)
    submit(tmp_path / "run", path, DEVICES="1")
    call("scancel", "--user=root")
    wait_for(are_jobs_ended)


def test_an_array_of_three_parts_one_stopped_and_requeued_gives_the_bits_of_one_process(tmp_path: Path):
    recipe = Recipe(source_clips=3, target_clips=2, test_clips=1, sections=2, seconds=2.0)
    synthesize(tmp_path / "data", recipe, machines=MACHINES)
    assert train_tiny(tmp_path / "data", tmp_path / "one", **CHANGES) == 0
    words = overrides(tmp_path / "data", **CHANGES)
    numbers = submit(tmp_path / "run", make_asdjax(tmp_path / "bin"), *words, DEVICES="2")["train"]
    wait_for(lambda: any(checkpoints.list_steps(tmp_path / "run" / "fan" / "phase1")))
    call("scancel", "-s", "TERM", f"{numbers[0]}_0")
    wait_for(are_jobs_ended)
    jobs = read_jobs(numbers)
    assert [job["ArrayTaskId"] for job in jobs] == ["0", "1", "2"]
    assert [job["JobState"] for job in jobs] == ["COMPLETED"] * 3
    assert [job["Restarts"] for job in jobs] == ["1", "0", "0"]
    for machine in MACHINES:
        for line, last in (("phase1", 300), ("phase2_full", 10)):
            one, parts = (checkpoints.read_digest(tmp_path / name / machine / line, last) for name in ("one", "run"))
            assert one == parts
    assert (tmp_path / "run" / "evaluation" / "dev" / "results.json").exists()


@pytest.mark.parametrize(("code", "restarts"), [(2, 0), (3, 0), (1, 3)])
def test_what_would_fail_again_is_not_requeued_and_other_failures_three_times(code: int, restarts: int, tmp_path: Path):
    path = make_command(tmp_path / "bin", f"{ONE_PART}\nexit {code}")
    numbers = submit(tmp_path / "run", path, DEVICES="1")
    wait_for(are_jobs_ended)
    (job,) = read_jobs(numbers["train"])
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", f"{code}:0", str(restarts))
    assert {job["JobState"] for job in read_jobs(numbers["score"] + numbers["gather"])} == {"CANCELLED"}


@pytest.mark.parametrize(
    ("code", "stopped", "restarts"), [(2, 75, 0), (3, 75, 0), (1, 75, 3), (2, 137, 0), (1, 137, 3)]
)
def test_the_code_of_one_process_counts_though_the_others_are_stopped(
    code: int, stopped: int, restarts: int, tmp_path: Path
):
    # the second process is stopped by Slurm as soon as the first has ended, and says that all is saved
    ready = f"{tmp_path}/ready-${{SLURM_RESTART_COUNT:-0}}"
    first = f"until [ -e {ready} ]; do sleep 0.1; done; exit {code}"
    other = f"trap 'exit {stopped}' TERM; touch {ready}; for i in {{1..600}}; do sleep 0.1; done"
    path = make_command(tmp_path / "bin", f"{ONE_PART}\n[ $SLURM_PROCID = 1 ] || {{ {first}; }}\n{other}")
    numbers = submit(tmp_path / "run", path, NODES="2")
    wait_for(are_jobs_ended)
    (job,) = read_jobs(numbers["train"])
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", f"{code}:0", str(restarts))
    assert {job["JobState"] for job in read_jobs(numbers["gather"])} == {"CANCELLED"}


def test_one_program_over_two_nodes_is_stopped_and_requeued(corpus: Path, tmp_path: Path):
    line = tmp_path / "run" / "fan" / "phase1"
    changes = {**CHANGES, "phase1__steps": "60"}
    (number,) = submit(tmp_path / "run", make_asdjax(tmp_path / "bin"), *overrides(corpus, **changes), NODES="2")[
        "train"
    ]
    wait_for(lambda: any(checkpoints.list_steps(line)))
    call("scancel", "-s", "TERM", number)
    wait_for(are_jobs_ended)
    (job,) = read_jobs([number])
    assert (job["JobState"], job["NumNodes"], job["Restarts"]) == ("COMPLETED", "2", "1")
    rows = metric_log.read(tmp_path / "run" / "fan" / metric_log.FILE)
    begun = [(row["event"], row["phase"], row["processes"]) for row in rows if row.get("event")]
    assert begun == [("started", "phase1", 2), ("resumed", "phase1", 2), ("started", "phase2_full", 2)]
    assert (tmp_path / "run" / "evaluation" / "dev" / "results.json").exists()
