"""What the temporaries of a GPU's step take, and how many fleets' fit there."""

from typing import NamedTuple

SHARE = 0.4
"""Of the device's memory, what temporaries may take by this; audio may take as much."""

PIECE_BYTES_IN_TURN = 60e6
PIECE_BYTES_AT_ONCE = 375e6
"""Bytes for each fleet and each piece of 32 frames of its batch, in bfloat16 at width 1. On an H200 seven stacked
fleets of 48, of which a variant begins when the gradient of the one before is there, take 17.8 GiB in all; one whose
six variants go at once takes 16.7, 8.6 before anything is tuned (jax 0.11.2)."""


class BatchSize(NamedTuple):
    """What a fleet's temporaries grow with; `pieces` of each variant are on a device."""

    pieces: float
    frames: int
    width: float
    precision: str


def fleets_that_fit(piece_bytes: float, batch: BatchSize, memory_bytes: float) -> float:
    """By one of the figures above, on devices of so much memory each."""
    numbers = 1 if batch.precision == "bfloat16" else 2
    fleet_bytes = piece_bytes * numbers * batch.width * batch.frames / 32 * batch.pieces
    return SHARE * memory_bytes / fleet_bytes
