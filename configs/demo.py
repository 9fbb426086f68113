"""The demo: the method at an eighth of the width, for a few minutes on two CPU cores.

    asdjax demo

Hardware and time: see the README. Expected: `all_mean` above both simple detectors, as the README's table.
"""

from asdjax.config import Config, default


def get_config() -> Config:
    """The report's method, shrunk."""
    config = default()
    config.width = 0.125
    config.train.batch_size = 8
    config.train.log_every_steps = 10
    config.train.checkpoint_every_steps = 100
    config.optimizer.learning_rate = 0.03
    # at a constant rate, or without a warm-up, the results of short trainings spread more over seeds
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 30
    config.phase1.steps = 150
    config.phase2.steps = 30
    # a threshold shared by both domains is below most normal clips of the target domain, whose scores are higher
    config.evaluate.threshold_per = "section_domain"
    return config
