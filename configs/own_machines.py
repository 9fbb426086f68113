"""Configuration for your own machines: normal recordings listed in a manifest.csv.

    asdjax check --config configs/own_machines.py --config.data.root=recordings
    asdjax train --config configs/own_machines.py --config.data.root=recordings --workdir run
    asdjax evaluate --workdir run

`recordings/manifest.csv` has the columns path,machine,section,domain,split,label,attributes. The models learn to
separate classes: two machines or more, two sections of one machine, or two attribute values. A machine alone has no
models, and the simple detectors by log-mel statistics score its clips.

Clips must be 16 kHz, mono and 16 bits; others are refused. With `--config.data.on_mismatch=convert`, given to `check`
and `train`, they are resampled and rounded, and several channels are averaged (`--config.data.channel=1` takes the
first alone).

Hardware and time: grows with the number of clips; `--config.phase1.epochs` and `--config.width` reduce it.
"""

from asdjax.config.fields import Config, default_config


def get_config() -> Config:
    """Return settings for recordings listed in a manifest: the report's, but for what helped on real recordings."""
    config = default_config()
    config.data.root = ("recordings",)
    config.data.layout = "manifest"
    # a threshold shared by both domains is below most normal clips of the target domain, whose scores are higher
    config.evaluate.threshold_per = "section_domain"
    # on real recordings phase 2 ruins a model as often as it helps, and models alone can be worse than a mean spectrum
    # (tests/perf/README.md, "Detection on real sound")
    config.evaluate.lines = ("phase1", "phase2_full")
    # seeds agree better on averages of a model's last steps, and distances relative to a bank's density find more
    # faults (the same README, "Choices of training and scoring")
    config.optimizer.average_decay = 0.99
    config.evaluate.backend = "knn_density"
    config.evaluate.system = "combined"
    return config
