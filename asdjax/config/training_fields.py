"""Fields of training: loss, mixup, optimizer, schedule of steps, devices and phases."""

from typing import Literal

from asdjax.config.field_spec import COUNT, OPEN, FieldGroup, Rule, any_of, between, field, positive

#: The strategies of phase 2; training/optimizer.py says which parameters each of them trains.
STRATEGIES = ("full", "last_block", "backbone", "arcface")

MOST_STEPS = 10_000_000  # no run has use for more


class NormalisationFields(FieldGroup):
    """Batch normalisation of every backbone; epsilon and decay are in models/layers.py."""

    running_variance: Literal["biased", "unbiased"] = field(
        "biased",
        "variance of a channel's n values in the running average: over n, or over n - 1 as in PyTorch; "
        "the batch itself is normalised with the biased one",
        source=OPEN,
    )


class ArcFaceFields(FieldGroup):
    """ArcFace head."""

    margin_radians: float = field(
        0.05, "angular margin", unit="radians", source="report, Table 3", rule=between(0, 1.5)
    )
    scale: float = field(30.0, "factor of the cosines", source="report, Table 3", rule=positive())
    subcentres: int = field(
        1,
        "centres per class, of every loss; the report tried more and left them out",
        source="report, 2.1",
        rule=positive(1000),
    )


class MixupFields(FieldGroup):
    """Mixing of two clips."""

    max_weight: float = field(
        0.5,
        "upper end of the second clip's weight w ~ U[0, max_weight)",
        source="report, Table 3",
        rule=between(0, 0.5),
    )
    labels: Literal["soft", "dominant"] = field(
        "soft", "classes of a mix: both clips' by weight, or the heavier clip's", source=OPEN
    )


class OptimizerFields(FieldGroup):
    """SGD with momentum."""

    learning_rate: float = field(0.05, "learning rate", source="report, Table 3", rule=positive())
    momentum: float = field(0.9, "momentum", source=OPEN, rule=between(0, 0.999))
    weight_decay: float = field(
        0.0,
        "weight decay of kernels and centres; normalisations, PReLUs and biases have none",
        source=OPEN,
        rule=between(0, 1),
    )
    clip_norm: float = field(
        0.0, "largest norm of a variant's gradient; 0: unlimited", source=OPEN, rule=between(0, 1e9)
    )
    average_decay: float = field(
        0.0,
        "decay per step of a moving average of parameters and batch statistics, which is saved and scored in the "
        "model's place; the decay is smaller over the first steps; 0: no average. 0.99 made the combined system of "
        "five seeds agree to 2 to 5 points instead of 3 to 19 on real recordings",
        source=OPEN,
        rule=between(0, 0.99999),
    )
    schedule: Literal["constant", "cosine", "step"] = field(
        "constant", "learning rate within each phase; cosine ends at 0", source=OPEN
    )
    warmup_steps: int = field(
        0,
        "rise from near 0 to the learning rate at the start of each phase",
        unit="steps",
        source=OPEN,
        rule=between(0, MOST_STEPS),
    )
    step_at: tuple[float, ...] = field(
        (0.5, 0.75),
        "points at which schedule=step lowers the learning rate",
        unit="share of a phase",
        source=OPEN,
        rule=Rule(expected="shares between 0 and 1", allows=lambda value: 0 < value < 1),
    )
    step_factor: float = field(0.1, "factor of the learning rate at each of step_at", source=OPEN, rule=between(0, 1))


class TrainFields(FieldGroup):
    """Steps and checkpoints of both phases."""

    batch_size: int = field(
        48,
        "batch of a variant in a step, over all devices",
        unit="pieces",
        source="report, Table 3",
        rule=positive(1_000_000),
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        "auto", "type of the computation; auto: bfloat16 on GPU and TPU, float32 on CPU", source=OPEN
    )
    steps_per_dispatch: int = field(
        0, "steps per call of the compiled program; 0: 1 on a CPU, else 50", unit="steps", rule=between(0, 10_000)
    )
    variants_per_group: int = field(
        0,
        "variants whose gradients a step computes together; 0: all of a single fleet on a GPU that has the memory, "
        "else 1",
        rule=between(0, 6),
    )
    log_every_steps: int = field(50, "interval of the metric log", unit="steps", rule=COUNT, free_on_resume=True)
    checkpoint_every_minutes: float = field(
        10.0,
        "interval of checkpoints; the last step of a phase always has one",
        unit="minutes",
        rule=positive(),
        free_on_resume=True,
    )
    checkpoint_every_steps: int = field(
        0,
        "interval of further checkpoints, with losses on held-out clips; 0: none",
        unit="steps",
        rule=between(0, 1_000_000_000),
        free_on_resume=True,
    )
    keep: int = field(2, "newest checkpoints kept per phase", rule=COUNT, free_on_resume=True)
    holdout_fraction: float = field(
        0.0,
        "share of each class's normal clips that is never trained on; its loss and accuracy are logged",
        rule=between(0, 0.5),
    )


class ParallelFields(FieldGroup):
    """Distribution of fleets over devices and programs."""

    device_groups: int = field(
        1,
        "groups of equally many devices, each of which trains fleets of its own",
        rule=positive(1000),
        free_on_resume=True,
    )
    fleets_per_program: int = field(
        0,
        "runs with equal classes per section and equal phases that train in one program; 0: as many as fit on a GPU, "
        "else 1",
        rule=between(0, 1000),
        free_on_resume=True,
    )
    patience_minutes: float = field(
        15.0,
        "longest wait for a dispatch, or 30 times the median if that is longer; then the process ends as stuck",
        unit="minutes",
        rule=positive(100_000),
        free_on_resume=True,
    )


class Phase1Fields(FieldGroup):
    """Training on the source domain."""

    epochs: float = field(
        250.0,
        "length; an epoch has as many pieces as there are source clips (OPEN)",
        unit="epochs",
        source="report, 2.4",
        rule=positive(MOST_STEPS),
    )
    steps: int | None = field(None, "length; replaces epochs if set", unit="steps", rule=positive(MOST_STEPS))


class LearningRateFields(FieldGroup):
    """Learning rate of each strategy of phase 2."""

    full: float | None = field(None, "learning rate of full; None: the optimizer's", rule=positive())
    last_block: float | None = field(None, "learning rate of last_block; None: the optimizer's", rule=positive())
    backbone: float | None = field(None, "learning rate of backbone; None: the optimizer's", rule=positive())
    arcface: float | None = field(None, "learning rate of arcface; None: the optimizer's", rule=positive())


class Phase2Fields(FieldGroup):
    """Fine-tuning on both domains, once per strategy."""

    steps: int = field(5000, "length of each strategy", unit="steps", source="report, 2.4", rule=positive(MOST_STEPS))
    epochs: float | None = field(
        None,
        "length of each strategy in epochs of the source clips, as in phase 1; replaces steps if set",
        unit="epochs",
        rule=positive(MOST_STEPS),
    )
    strategies: tuple[str, ...] = field(
        ("full",),
        "strategies, each from the end of phase 1: last_block trains from there on, backbone and arcface freeze what "
        "they name; empty: no phase 2",
        source=OPEN,
        rule=any_of(STRATEGIES),
        distinct=True,
    )
    learning_rate: LearningRateFields
