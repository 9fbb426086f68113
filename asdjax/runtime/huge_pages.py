"""Huge pages for the memory that XLA takes from the system at every step on a CPU."""

import os
import sys

_TUNABLES, _HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Restart this process with glibc set to ask for huge pages, unless GLIBC_TUNABLES already sets it.

    glibc (2.35 or newer) reads the setting only when a process starts; other systems ignore it. To decline, set
    GLIBC_TUNABLES=glibc.malloc.hugetlb=0. Measurements: tests/perf/README.md.
    """
    tunables = os.environ.get(_TUNABLES, "")
    if sys.platform != "linux" or not sys.executable or _HUGE_PAGES in tunables:
        return
    os.environ[_TUNABLES] = ":".join(filter(None, (tunables, f"{_HUGE_PAGES}=1")))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
