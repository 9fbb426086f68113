"""Launch files that are checked without their engine: Kubernetes' by their schemas, the scripts by shellcheck."""

import copy
import os
import re
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import PROJECT
from kubeflow_trainer_api.models import JobsetV1alpha2FailurePolicyRule, JobsetV1alpha2JobSet

from asdjax.cli import console
from asdjax.runtime import interrupts

LAUNCH = PROJECT / "launch"
VALUES = {
    "NAME": "dcase",
    "QUEUE": "gpus",
    "IMAGE": "asdjax:1",
    "CLAIM": "shared",
    "PARTS": "12",
    "AT_ONCE": "4",
    "PROCESSES": "4",
    "CONFIG": "/shared/my_config.py",
}


def read_manifest(name: str) -> dict:
    """Read a manifest with every value in capitals replaced, as its first lines say."""
    text = (LAUNCH / "kubernetes" / name).read_text()
    for value, replacement in VALUES.items():
        text = re.sub(rf"\b{value}\b", replacement, text)
    return yaml.safe_load(text)


@pytest.fixture
def job() -> dict:
    """The Job of parts."""
    return read_manifest("fleets.yaml")


@pytest.fixture
def job_set() -> dict:
    """The JobSet of one program."""
    return read_manifest("pod.yaml")


def test_the_job_is_valid(job: dict):
    kubernetes_validate.validate(job, "1.37", strict=True)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 12, 4)
    (container,) = spec["template"]["spec"]["containers"]
    (line,) = container["args"]
    assert line == (
        'exec asdjax train --config /shared/my_config.py --workdir /shared/run --part "$JOB_COMPLETION_INDEX/12"'
    )
    job["spec"]["completionsMode"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.37", strict=True)


def test_the_job_s_policy_has_the_exit_codes_of_asdjax(job: dict):
    rules = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    actions = {rule["action"]: rule["onExitCodes"] for rule in rules}
    assert actions["Ignore"]["values"] == [interrupts.STOPPED]
    assert actions["FailIndex"]["values"] == [console.BAD_INPUT, console.DIVERGED]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules} == {container["name"]}


def test_the_job_set_is_valid(job_set: dict):
    (workers,) = job_set["spec"]["replicatedJobs"]
    # the Job is checked below, as the models of JobSet refuse its quantities, "2Gi"; they drop unknown names
    around = copy.deepcopy(job_set)
    around["spec"]["replicatedJobs"][0]["template"] = {"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}
    assert JobsetV1alpha2JobSet.model_validate(around).to_dict() == around
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "dcase-workers-0"}, **workers["template"]}
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (4, 4)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (line,) = container["args"]
    assert line.endswith(
        '--processes 4 --process "$JOB_COMPLETION_INDEX" --coordinator dcase-workers-0-0.dcase:'
        f"{container['ports'][0]['containerPort']}"
    )


def test_the_job_set_s_policies_have_the_exit_codes_of_asdjax(job_set: dict):
    (workers,) = job_set["spec"]["replicatedJobs"]
    rules = workers["template"]["spec"]["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} == {"FailJob"}  # a Job that fails so has the reason PodFailurePolicy
    codes = [rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule]
    assert codes == [[interrupts.STOPPED], [console.BAD_INPUT, console.DIVERGED]]
    hopeless, again = job_set["spec"]["failurePolicy"]["rules"]
    (pattern,) = hopeless["onJobFailureMessagePatterns"]
    message = (
        "Container train for pod default/dcase-workers-0-1-x failed with exit code {} matching FailJob rule at index 1"
    )
    matching = [code for code in range(256) if re.search(pattern, message.format(code))]
    assert (hopeless["action"], matching) == ("FailJobSet", [console.BAD_INPUT, console.DIVERGED])
    assert (again["action"], again.keys() & {"onJobFailureMessagePatterns"}) == (
        "RestartJobSetAndIgnoreMaxRestarts",
        set(),
    )
    assert hopeless["onJobFailureReasons"] == again["onJobFailureReasons"] == ["PodFailurePolicy"]
    actions = re.findall(
        r"\w+JobSet\w*|RestartJob\w*", JobsetV1alpha2FailurePolicyRule.model_fields["action"].description or ""
    )
    assert {hopeless["action"], again["action"]} <= set(actions)


def test_ray_has_the_exit_codes_of_asdjax():
    text = (LAUNCH / "ray_parts.py").read_text()
    assert f"AGAIN = {interrupts.STOPPED}\n" in text
    assert f"HOPELESS = ({console.BAD_INPUT}, {console.DIVERGED})\n" in text


def test_the_managed_job_has_the_exit_code_of_asdjax_and_requires_its_values():
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [interrupts.STOPPED]
    assert task["envs"] == {"CONFIG": None, "PART": None}  # SkyPilot refuses a launch without a value for None
    train, evaluate = task["run"].partition("&&")[::2]
    assert '--config "$CONFIG"' in train
    assert train.rstrip().endswith('--part "$PART"')
    assert evaluate.rstrip().endswith('--part "$PART"')
    assert (task["workdir"], *task["volumes"]) == (".", "/shared")


def test_the_container_copies_what_is_there_and_takes_extras_that_there_are():
    text = (LAUNCH / "kubernetes" / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert {"pyproject.toml", "asdjax", "configs"} <= set(copied)
    assert all((PROJECT / name).exists() for name in copied)
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (allowed,) = re.findall(r'case "\$EXTRA" in (\w+) \| (\w+)\)', text)
    assert set(allowed) == set(extras)


TPU_VALUES = {
    "ZONE": "z",
    "TYPE": "v5litepod-8",
    "VERSION": "v2",
    "MOUNT": "mount a b",
    "PACKAGE": "/shared/a-1-py3-none-any.whl",
}
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
case $4 in
  describe) printf '%s\\n' "${STATE:-}" ;;
  create) for word; do case $word in startup-script=*) cp "${word#*=}" "$CALLS.$5" ;; esac; done ;;
esac
[ "$4 $5" != "create ${REFUSED:-}" ]
"""


@pytest.fixture
def fake_gcloud(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `gcloud` writes its arguments to a file, and copies each startup script."""
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "gcloud", GCLOUD)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), **TPU_VALUES}


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run_tpu(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAUNCH / "tpu", *words], env=environment, capture_output=True, text=True, check=False)


def read_calls(environment: dict[str, str], verb: str) -> list[str]:
    calls = Path(environment["CALLS"]).read_text().splitlines()
    return [call for call in calls if call.split()[3] == verb]


def test_each_part_has_a_slice_of_its_own(fake_gcloud: dict[str, str]):
    words = ("2", "dcase2021", "/shared/my run", "--config.data.root=/shared/a b")
    ran = run_tpu(fake_gcloud | {"SPOT": "1"}, *words)
    assert ran.returncode == 0, ran.stderr
    calls = read_calls(fake_gcloud, "create")
    names = ("asdjax-my-run-0", "asdjax-my-run-1")
    assert [call.split()[4:7] for call in calls] == [[name, "--node-id", name] for name in names]
    assert all("--accelerator-type v5litepod-8" in call and call.endswith("--spot") for call in calls)
    for i, name in enumerate(names):
        text = Path(f"{fake_gcloud['CALLS']}.{name}").read_text()
        assert r"--workdir /shared/my\ run --part " + f"{i}/2" in text
        assert "--config dcase2021" in text
        assert r"--config.data.root=/shared/a\ b" in text


@pytest.mark.parametrize(("state", "verbs"), [("ACTIVE", []), ("SUSPENDED", ["delete", "create"]), ("", ["create"])])
def test_a_slice_that_is_there_is_left_and_a_lost_one_replaced(
    state: str, verbs: list[str], fake_gcloud: dict[str, str]
):
    assert run_tpu(fake_gcloud | {"STATE": state}, "1", "dcase2021", "/shared/run").returncode == 0
    calls = [call.split()[3] for call in Path(fake_gcloud["CALLS"]).read_text().splitlines()]
    assert calls == ["describe", *verbs]


def test_a_slice_that_is_refused_does_not_stop_the_others(fake_gcloud: dict[str, str]):
    ran = run_tpu(fake_gcloud | {"REFUSED": "asdjax-run-0"}, "3", "dcase2021", "/shared/run")
    assert ran.returncode == 1
    assert len(read_calls(fake_gcloud, "create")) == 3


@pytest.mark.parametrize(
    ("codes", "calls", "last"),
    [
        ([0, 0], 2, 0),  # train, evaluate
        ([console.BAD_INPUT], 1, console.BAD_INPUT),
        ([console.DIVERGED], 1, console.DIVERGED),
        ([interrupts.STOPPED, 0, interrupts.STOPPED, 0, 0], 5, 0),
        ([1, 1, 1], 3, 1),
    ],
)
def test_a_slice_runs_its_part_and_deletes_itself(
    codes: list[int], calls: int, last: int, fake_gcloud: dict[str, str], tmp_path: Path
):
    script, environment = make_startup(fake_gcloud, tmp_path)
    asdjax = f"#!/usr/bin/env bash\necho x >>{tmp_path}/runs\nset -- {' '.join(map(str, codes))}\n"
    asdjax += f"shift $(($(wc -l <{tmp_path}/runs) - 1))\nexit $1\n"
    write_program(tmp_path / "opt" / "bin" / "asdjax", asdjax)
    subprocess.run(["bash", script], env=environment, check=True)
    assert len((tmp_path / "runs").read_text().split()) == calls
    assert (tmp_path / "shared" / "run" / "tpu" / "part-0.code").read_text() == f"{last}\n"
    assert [call.split()[4] for call in read_calls(environment, "delete")] == ["asdjax-run-0"]


def test_a_slice_without_the_shared_disk_deletes_itself(fake_gcloud: dict[str, str], tmp_path: Path):
    script, environment = make_startup(fake_gcloud | {"MOUNT": "false"}, tmp_path)
    assert subprocess.run(["bash", script], env=environment, check=False).returncode == 1
    assert len(read_calls(environment, "delete")) == 1
    assert not (tmp_path / "opt").exists()


def make_startup(environment: dict[str, str], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Return the startup script of a part, with folders under `tmp_path`, and an environment of stand-ins for it."""
    environment = {"MOUNT": "true", **{name: value for name, value in environment.items() if value != "mount a b"}}
    assert run_tpu(environment, "1", "dcase2021", "/shared/run").returncode == 0
    script = Path(f"{environment['CALLS']}.asdjax-run-0")
    text = script.read_text().replace("/opt/asdjax", f"{tmp_path}/opt").replace("/shared", f"{tmp_path}/shared")
    script.write_text(text)
    for name in ("python3", "sleep"):
        write_program(tmp_path / "bin" / name, "#!/usr/bin/env bash\n")
    return script, environment


@pytest.mark.parametrize("missing", TPU_VALUES)
def test_a_missing_value_is_refused(missing: str, fake_gcloud: dict[str, str]):
    del fake_gcloud[missing]
    ran = run_tpu(fake_gcloud, "2", "dcase2021", "/shared/run")
    assert (ran.returncode, ran.stderr) == (2, f"{missing}: expected a value, got none; see launch/README.md\n")
    assert not Path(fake_gcloud["CALLS"]).exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "PARTS"),
        (["2", "dcase2021"], "PARTS"),
        (["0", "dcase2021", "/shared/run"], "PARTS=0"),
        (["2", "dcase2021", "run"], "run: expected a folder in /shared"),
        (["2", "my.py", "/shared/run"], "my.py: expected a file in /shared"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], named: str, fake_gcloud: dict[str, str]):
    ran = run_tpu(fake_gcloud, *words)
    assert ran.returncode == 2
    assert named in ran.stderr
    assert not Path(fake_gcloud["CALLS"]).exists()


def test_scripts_pass_shellcheck():
    scripts = [
        file for file in LAUNCH.rglob("*") if file.is_file() and file.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert scripts
    ran = subprocess.run(["shellcheck", *scripts, PROJECT / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
