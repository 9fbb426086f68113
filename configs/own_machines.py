"""Your own machines: normal recordings listed in a manifest.csv.

    asdjax check --config configs/own_machines.py --config.data.root=recordings
    asdjax train --config configs/own_machines.py --config.data.root=recordings --workdir run
    asdjax evaluate --workdir run

`recordings/manifest.csv` has the columns path,machine,section,domain,split,label,attributes. Two machines, two
sections of one machine, or two attribute values give the classes that training tells apart. What is not 16 kHz,
mono and 16 bits is refused; `--config.data.on_mismatch=convert`, given to `check` and `train`, has it resampled and
rounded, and several channels averaged into one (`--config.data.channel=1` takes the first alone).

Hardware and time: grows with the number of clips; `--config.phase1.epochs` and `--config.width` shrink it.
"""

from asdjax.config.fields import Config, default_config


def get_config() -> Config:
    """The report's method on a manifest."""
    config = default_config()
    config.data.root = ("recordings",)
    config.data.layout = "manifest"
    # a threshold shared by both domains is below most normal clips of the target domain, whose scores are higher
    config.evaluate.threshold_per = "section_domain"
    return config
