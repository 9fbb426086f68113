"""What every record holds besides its figures: device, versions, and what other programs did meanwhile."""

import os
from typing import Any, Self

from asdjax.perf import device_limits
from asdjax.perf.other_work import OtherWork
from asdjax.perf.torch_peer import TorchPeer


class BenchRecord(dict[str, Any]):
    """{"device", "versions"}, to add figures to: made when measuring begins."""

    def __init__(self, peer: TorchPeer | None = None) -> None:
        super().__init__(device=device_limits.describe(), versions=device_limits.versions())
        self._work = OtherWork([os.getpid(), *([peer.pid] if peer else [])])
        if peer:
            self["device"]["torch"] = peer.about
            self["versions"]["torch"] = peer.about["torch"]

    def so_far(self) -> Self:
        """Itself, with what other programs took of the cores, and this one of the device's memory, until now."""
        self["device"] |= {"memory_peak_bytes": device_limits.memory_peak(), "others_share": self._work.share()}
        return self
