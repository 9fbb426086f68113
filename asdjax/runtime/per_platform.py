"""Which way of computing an operation a platform takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from asdjax.runtime import hardware

Form = Callable[..., Any]
"""A way to compute an operation; a convolution: (x, kernel, stride) -> (b, f', t', c')."""


class PerPlatform(NamedTuple):
    """The way of each platform: as measured on a CPU, on a TPU by its compiler's estimate. On a GPU dense and depthwise
    convolutions as measured beside others on an H200; 1x1 ones, depthwise kernels' gradients, normalisation, max pool
    and a batch's sums by profiles there and by what is compiled for it; the STFT's beside no other.

    tests/perf/op_forms.py holds them against each other in a whole step, on any of these.
    """

    cpu: Form
    gpu: Form
    tpu: Form

    def here(self) -> Form:
        """That of the platform which is computed on, or compiled for."""
        return {"cpu": self.cpu, "tpu": self.tpu}.get(hardware.platform(), self.gpu)
