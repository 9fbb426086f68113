"""What `prepare` changes in the process."""

import platform
import subprocess
import sys

import pytest

PAGES_OF_A_BLOCK = 64 * 2**20 // 4096
PROGRAM = """
import resource
from threading import Thread

import numpy as np

from asdjax import runtime


def fill() -> None:
    np.ones(64 * 2**20, np.uint8)


def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    thread = Thread(target=fill)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


runtime.prepare()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_memory_that_was_freed_is_taken_again_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < PAGES_OF_A_BLOCK / 10
