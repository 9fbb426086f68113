"""Configuration of the report: six ArcFace models for each of the seven machine types of DCASE 2021 Task 2.

    asdjax train --config configs/dcase2021.py --workdir run --config.data.root=dev_data,eval_data
    asdjax evaluate --workdir run

`dev_data` and `eval_data` hold the development and the additional training data, one folder per machine type.

Hardware and time: 31,250 + 5,000 steps of six variants per machine type; this project has not yet run all of them.
Expected: an official score of 67.44 on the development set for `all_mean` (report, Table 2, Submission 4).
"""

from asdjax.config.fields import Config, default_config


def get_config() -> Config:
    """Return the defaults, which are the report's settings; configs/README.md has the source of each."""
    return default_config()
