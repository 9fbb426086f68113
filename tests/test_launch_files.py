"""Launch files that are checked without their engine: the Kubernetes Job by its schema, the scripts by shellcheck."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import PROJECT

from asdjax.cli import console
from asdjax.runtime import interrupts

LAUNCH = PROJECT / "launch"
VALUES = {"NAME": "dcase", "QUEUE": "gpus", "IMAGE": "asdjax:1", "CLAIM": "shared", "PARTS": "12", "AT_ONCE": "4"}


@pytest.fixture
def job() -> dict:
    """The Job with every value in capitals replaced, as its first lines say."""
    text = (LAUNCH / "kubernetes" / "fleets.yaml").read_text()
    for name, value in (VALUES | {"CONFIG": "/shared/my_config.py"}).items():
        text = re.sub(rf"\b{name}\b", value, text)
    return yaml.safe_load(text)


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


TPU_VALUES = {"ZONE": "z", "TYPE": "v5litepod-8", "VERSION": "v2", "MOUNT": "mount a b", "PACKAGE": "/shared/a.whl"}
GCLOUD = """#!/usr/bin/env bash
printf '%s\n' "$*" >>"$CALLS"
for word; do
  case $word in
    startup-script=*) n=$(wc -l <"$CALLS"); cp "${word#*=}" "$CALLS.$n" ;;
  esac
done
"""


@pytest.fixture
def fake_gcloud(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `gcloud` writes its arguments to a file, and copies each startup script."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").write_text(GCLOUD)
    (tmp_path / "bin" / "gcloud").chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), **TPU_VALUES}


def run_tpu(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAUNCH / "tpu", *words], env=environment, capture_output=True, text=True, check=False)


def test_each_part_has_a_slice_of_its_own(fake_gcloud: dict[str, str]):
    words = ("2", "dcase2021", "/shared/my run", "--config.data.root=/shared/a b")
    ran = run_tpu(fake_gcloud | {"SPOT": "1"}, *words)
    assert ran.returncode == 0, ran.stderr
    calls = Path(fake_gcloud["CALLS"]).read_text().splitlines()
    assert [call.split()[3:7] for call in calls] == [
        ["create", name, "--node-id", name] for name in ("my-run-0", "my-run-1")
    ]
    assert all("--accelerator-type v5litepod-8" in call and call.endswith("--spot") for call in calls)
    for i in range(2):
        script = Path(f"{fake_gcloud['CALLS']}.{i + 1}")
        subprocess.run(["bash", "-n", script], check=True)
        text = script.read_text()
        assert r"--workdir /shared/my\ run --part " + f"{i}/2" in text
        assert r"--config dcase2021" in text
        assert r"--config.data.root=/shared/a\ b" in text
        assert f"{interrupts.STOPPED}) ;;" in text
        assert f"0 | {console.BAD_INPUT} | {console.DIVERGED}) break" in text


@pytest.mark.parametrize("missing", TPU_VALUES)
def test_a_missing_value_is_refused(missing: str, fake_gcloud: dict[str, str]):
    del fake_gcloud[missing]
    ran = run_tpu(fake_gcloud, "2", "dcase2021", "/shared/run")
    assert (ran.returncode, ran.stderr) == (2, f"{missing}: expected a value, got none; see launch/README.md\n")
    assert not Path(fake_gcloud["CALLS"]).exists()


@pytest.mark.parametrize("words", [[], ["2", "dcase2021"], ["0", "dcase2021", "/shared/run"]])
def test_wrong_arguments_are_refused(words: list[str], fake_gcloud: dict[str, str]):
    ran = run_tpu(fake_gcloud, *words)
    assert ran.returncode == 2
    assert "PARTS" in ran.stderr
    assert not Path(fake_gcloud["CALLS"]).exists()


def test_scripts_pass_shellcheck():
    scripts = [
        file for file in LAUNCH.rglob("*") if file.is_file() and file.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert scripts
    ran = subprocess.run(["shellcheck", *scripts, PROJECT / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
