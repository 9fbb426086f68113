"""Train and evaluate the parts of a run as Ray tasks.

    python launch/ray_parts.py --parts N [--gpus G] [--address A] CONFIG WORKDIR [--config.FIELD=VALUE ...]

Needs `pip install ray` where this runs, and `asdjax` on the PATH of every node (or its command line in $ASDJAX).
WORKDIR and the recordings are folders that all nodes share. Run it again to go on: what is trained is skipped.
"""

import argparse
import os
import shlex
import subprocess
import sys

import ray

#: Exit codes of asdjax: everything is saved, and the same command goes on.
AGAIN = 75

#: Exit codes of asdjax after which the same command would fail again: wrong input, a diverged training.
HOPELESS = (2, 3)

#: Exit code for a node without asdjax, as shells have it.
MISSING = 127

#: Times that any other failure is tried, such as a lack of memory on the host.
TRIES = 3


class RunAgain(Exception):
    """The part was stopped with everything saved."""


def run_part(words: list[str]) -> int:
    """Run asdjax on a node, again after a failure that may pass; return its exit code."""
    command, code = [*shlex.split(os.environ.get("ASDJAX", "asdjax")), *words], 0
    for _ in range(TRIES):
        try:
            code = subprocess.run(command, check=False).returncode
        except FileNotFoundError:
            return MISSING
        if code == AGAIN:
            raise RunAgain
        if code == 0 or code in HOPELESS:
            break
    return code


def run_parts(words: list[str], parts: int, gpus: float) -> int:
    """Run a command as parts, or whole if there is one, on a CPU and some GPUs each; return 0 or the gravest exit code.

    Ray starts a part again when its node is lost or when it asks to be run again, however often.
    """
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1, retry_exceptions=[RunAgain])(run_part)
    each = [["--part", f"{i}/{parts}"] for i in range(parts)] if parts > 1 else [[]]
    names = {task.remote([*words, *part]): " ".join([words[0], *part]) for part in each}
    codes, waiting = [], list(names)
    while waiting:
        (ended,), waiting = ray.wait(waiting)
        codes.append(ray.get(ended))
        print(f"{names[ended]}: {'done' if codes[-1] == 0 else f'exit code {codes[-1]}'}", flush=True)
    return max(codes, key=lambda code: (code != 0, code not in HOPELESS, code))


def main() -> int:
    """Train all parts, evaluate all parts, and gather their evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, required=True, help="such as `asdjax parts --devices D` prints")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a part (default: %(default)s)")
    parser.add_argument("--address", help="of a Ray cluster (default: this machine)")
    parser.add_argument("config")
    parser.add_argument("workdir")
    options, overrides = parser.parse_known_args()
    if options.parts < 1:
        parser.error(f"--parts: expected a number from 1 on, got {options.parts}")
    ray.init(address=options.address, log_to_driver=True)
    workdir = ["--workdir", os.path.abspath(options.workdir)]
    train, evaluate = ["train", "--config", options.config, *workdir, *overrides], ["evaluate", *workdir]
    # the last one gathers, on a device like those of the parts, whose precision it has
    stages = [(train, options.parts), *([(evaluate, options.parts)] if options.parts > 1 else []), (evaluate, 1)]
    for words, parts in stages:
        if code := run_parts(words, parts, options.gpus):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
