"""Your own machines: normal recordings listed in a manifest.csv.

    asdjax check --config configs/own_machines.py --config.data.root=recordings
    asdjax train --config configs/own_machines.py --config.data.root=recordings --workdir run
    asdjax evaluate --workdir run

`recordings/manifest.csv` has the columns path,machine,section,domain,split,label,attributes. Two machines, two
sections of one machine, or two attribute values give the classes that training tells apart. Other sampling rates
and several channels are converted.

Hardware and time: grows with the number of clips; `--config.phase1.epochs` and `--config.width` shrink it.
"""

from asdjax.config import Config, default


def get_config() -> Config:
    """The report's method on a manifest, converting what is not 16 kHz mono."""
    config = default()
    config.data.root = ("recordings",)
    config.data.layout = "manifest"
    config.data.on_mismatch = "convert"
    return config
