"""Huge pages for the memory that a computation takes anew at every step."""

import os
import sys

_TUNABLES, _HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Start this process again with glibc told to ask for huge pages, where it can be told and was not.

    XLA takes the temporaries of a step, 0.6 GB for MobileFaceNet at batch 8, anew at each call, and gives them back:
    157,000 page faults a step, or 1,000 with pages of 2 MB. On two x86 cores that step takes 0.33 s instead of 0.59,
    EfficientNet-B0's 0.27 instead of 0.43. glibc (2.35 or newer) reads the setting when a process starts, and only
    then; others, and systems without such pages, ignore it. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 declines.
    """
    tunables = os.environ.get(_TUNABLES, "")
    if sys.platform != "linux" or not sys.executable or _HUGE_PAGES in tunables:
        return
    os.environ[_TUNABLES] = ":".join(filter(None, (tunables, f"{_HUGE_PAGES}=1")))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
