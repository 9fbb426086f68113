"""Configuration of the demo: the method at an eighth of the width, for a few minutes on two CPU cores.

    asdjax demo

The demo only checks that every stage works. Hardware, time and expected table: see the README.
Expected: `all_mean` above both simple detectors.
"""

from asdjax.config.fields import Config, default_config


def get_config() -> Config:
    """Return the report's settings with a smaller width, batch and number of steps."""
    config = default_config()
    config.width = 0.125
    config.train.batch_size = 8
    config.train.log_every_steps = 10
    config.train.checkpoint_every_steps = 50
    config.optimizer.learning_rate = 0.03
    # with a constant rate, or without a warm-up, the results of so few steps vary more over seeds
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 30
    config.phase1.steps = 100
    config.phase2.steps = 30
    # a threshold shared by both domains is below most normal clips of the target domain, whose scores are higher
    config.evaluate.threshold_per = "section_domain"
    return config
