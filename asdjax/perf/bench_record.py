"""The common part of every benchmark result: device, versions, and the load by other programs."""

import os
from typing import Any, Self

from asdjax.perf import device_limits
from asdjax.perf.other_work import OtherWork
from asdjax.perf.torch_peer import TorchPeer


class BenchRecord(dict[str, Any]):
    """Benchmark result {"device", "versions"}, to which figures are added. Make it when measuring begins."""

    def __init__(self, peer: TorchPeer | None = None) -> None:
        super().__init__(device=device_limits.describe_device(), versions=device_limits.list_versions())
        self._work = OtherWork([os.getpid(), *([peer.pid] if peer else [])])
        if peer:
            self["device"]["torch"] = peer.about
            self["versions"]["torch"] = peer.about["torch"]

    def refresh(self) -> Self:
        """Update the peak of the device's memory and other programs' share of the cores; return the record."""
        self["device"] |= {"memory_peak_bytes": device_limits.read_memory_peak(), "others_share": self._work.share()}
        return self
