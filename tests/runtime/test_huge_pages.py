"""Tests of huge pages: the process restarts with them once, and with the same arguments."""

import sys

import pytest

from tests.conftest import python

SHOWN = """
import os, sys

from asdjax.runtime.huge_pages import use_huge_pages

if os.environ.get("FIRST", str(os.getpid())) != str(os.getpid()):
    sys.exit("another process")
os.environ["FIRST"] = str(os.getpid())
use_huge_pages()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc on Linux has the setting")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=4", "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_the_same_process_starts_again_with_huge_pages_unless_told_otherwise(before: str, after: str) -> None:
    done = python(SHOWN, "a word", "--flag=1", env={"GLIBC_TUNABLES": before})
    assert (done.stdout, done.stderr) == (f"{after} a word --flag=1\n", "")
