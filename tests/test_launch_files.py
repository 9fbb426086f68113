"""Launch files that are checked without their engine: the Kubernetes Job by its schema, the scripts by shellcheck."""

import re
import subprocess

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


def test_scripts_pass_shellcheck():
    scripts = [
        file for file in LAUNCH.rglob("*") if file.is_file() and file.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert scripts
    ran = subprocess.run(["shellcheck", *scripts, PROJECT / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
