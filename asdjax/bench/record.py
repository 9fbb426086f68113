"""What every record holds besides its figures: device, versions, and what other programs did meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asdjax.bench import device
from asdjax.bench.other_work import OtherWork
from asdjax.bench.torch_peer import TorchPeer


@contextmanager
def recorded(peer: TorchPeer | None = None) -> Iterator[dict[str, Any]]:
    """A record to add figures to while it lasts: {"device", "versions"}."""
    work = OtherWork([os.getpid(), *([peer.pid] if peer else [])])
    record = {"device": device.describe(), "versions": device.versions()}
    if peer:
        record["device"]["torch"] = peer.about
        record["versions"]["torch"] = peer.about["torch"]
    yield record
    record["device"] |= {"memory_peak_bytes": device.memory_peak(), "others_share": work.share()}
