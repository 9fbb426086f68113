"""Command `demo`: every stage once, on a small synthetic machine."""

import argparse
from pathlib import Path
from typing import Any

from asdjax.cli import console
from asdjax.cli.console import DONE

_MACHINES = ("gearbox",)
_NEXT = """\
Next, with real recordings (with uv run before each command in a clone):
  asdjax download --year 2021 --out dcase
  asdjax train --config dcase2021 --config.data.root=dcase/dev_data --workdir run
  asdjax evaluate --workdir run
  asdjax report --workdir run
For your own machines see "Your own recordings" in the README."""


def add_demo(commands: Any) -> None:
    """Add `asdjax demo`."""
    parser = console.add_command(
        commands, "demo", _demo, "synthesize a machine, train six variants in both phases, evaluate, write a report"
    )
    parser.add_argument(
        "--workdir", type=console.parse_path, default=Path("asdjax-demo"), metavar="W", help="default: %(default)s"
    )


def _demo(options: argparse.Namespace) -> int:
    """Run every stage. Running it again in the same work directory resumes an earlier demo."""
    from asdjax.api import evaluate, train
    from asdjax.config import loading
    from asdjax.data.synthetic.synthesis import Recipe, synthesize
    from asdjax.evaluation.summary import as_text
    from asdjax.fleet import checkpoints
    from asdjax.report.build_report import report

    workdir = options.workdir
    checkpoints.require_savable(workdir)
    data = workdir / "data"
    config = loading.load("demo", {})
    config.data.root = (str(data),)
    loading.require_same_run(config, workdir)
    recipe = Recipe(source_clips=50, target_clips=3, test_clips=20, sections=3, seed=1, seconds=4.0)
    synthesize(data, recipe, machines=_MACHINES)
    train(config, workdir=workdir)
    results = evaluate(workdir)
    page = report(workdir)
    console.write(f"""
{as_text(results.content, console.terminal_width())}

results and table   {results.folder}
score files         {results.folder / "scores"}
report              {page} (open it in a browser)
recordings          {data}

{_NEXT}""")
    return DONE
