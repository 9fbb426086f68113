"""What `prepare` changes in the process."""

import platform
import subprocess
import sys

import pytest

PAGES_OF_A_BLOCK = 2**26 // 4096
PROGRAM = """
import resource
from threading import Thread

from asdjax import runtime


def fill() -> None:
    b"1" * 2**26  # not of numpy, which asks for huge pages


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
