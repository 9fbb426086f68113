"""The whole way once, small: synthetic machines, six variants, both phases, evaluation, report."""

from pathlib import Path

from asdjax.config import loading
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.evaluation.evaluate import EvaluationRequest, evaluate
from asdjax.evaluation.results_table import as_text
from asdjax.fleet import checkpoints
from asdjax.report.build_report import report
from asdjax.runtime import jax_setup
from asdjax.training.train import train

MACHINES = ("gearbox",)
RECIPE = Recipe(source_clips=50, target_clips=3, test_clips=20, sections=3, seed=1, seconds=4.0)


def demo(workdir: Path, width: int) -> str:
    """Run it in a work directory; returns what to print, for a terminal of `width` characters.

    Goes on where an earlier demo in the same work directory was ended.
    """
    checkpoints.require_savable(workdir)
    data = workdir / "data"
    config = loading.load("demo", {})
    config.data.root = (str(data),)
    loading.require_same_run(config, workdir)
    synthesize(data, RECIPE, machines=MACHINES)
    jax_setup.prepare()
    train(config, workdir)
    results = evaluate(workdir, EvaluationRequest())
    page = report(workdir)
    return f"""
{as_text(results.rows, width)}

results and table   {results.folder}
score files         {results.folder / "scores"}
report              {page}: open it in a browser
recordings          {data}

Next, on real data: put the DCASE 2021 machine folders into data/ and run
  asdjax check --config dcase2021 --config.data.root=data
  asdjax train --config dcase2021 --config.data.root=data --workdir run
  asdjax evaluate --workdir run
  asdjax report --workdir run
Your own machines: see --config own_machines and the README."""
