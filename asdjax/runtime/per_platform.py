"""Choice of how to compute an operation, by platform."""

from collections.abc import Callable
from typing import Any, NamedTuple

from asdjax.runtime import hardware

#: A function that computes an operation; of a convolution: (x, kernel, stride) -> (b, f', t', c').
Form = Callable[..., Any]


class PerPlatform(NamedTuple):
    """Function that computes an operation on each platform.

    tests/perf/op_forms.py compares the choices in a full training step. Measurements: tests/perf/README.md.
    """

    cpu: Form
    gpu: Form
    tpu: Form

    def current(self) -> Form:
        """Return the function for the platform that is computed on, or compiled for."""
        return {"cpu": self.cpu, "tpu": self.tpu}.get(hardware.platform(), self.gpu)
