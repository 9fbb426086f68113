"""The PyTorch counterpart: a process of its own, under the interpreter in $TORCH_PYTHON, that is asked line by line."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asdjax.errors import InputError
from asdjax.perf.measure import Way

INTERPRETER = "TORCH_PYTHON"
SCRIPT = Path(__file__).parents[2] / "tests" / "perf" / "torch_training.py"


PROBE = "import torch; print(6 * 7)"
"""Which no program but Python answers with 42."""


def command(threads: int) -> list[str]:
    """How the counterpart is started.

    Raises InputError where there is no interpreter that has torch, or no counterpart, as in an installed package.
    """
    interpreter = os.environ.get(INTERPRETER, "")
    if not SCRIPT.is_file():
        raise InputError(
            "--against torch: the PyTorch counterpart lies in tests/perf/ of the source, which is not beside this "
            "installed package; run asdjax from a clone of the repository"
        )
    if fault := _fault(interpreter):
        raise InputError(
            f"--against torch: expected in {INTERPRETER} the path of a Python interpreter that has torch, {fault}; "
            "make one by: python -m venv torch && torch/bin/pip install torch librosa"
        )
    return [interpreter, str(SCRIPT), str(threads)]


def _fault(interpreter: str) -> str:
    """What came instead of an interpreter that has torch; empty where it is one."""
    if not interpreter:
        return "it is not set"
    try:
        ran = subprocess.run([interpreter, "-c", PROBE], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        return f"came {interpreter} ({error.strerror})"
    if ran.returncode == 0 and ran.stdout.split() == ["42"]:
        return ""
    last = ran.stderr.strip().splitlines()[-1:] or ["no Python"]
    return f"came {interpreter} ({last[0]})"


class TorchPeer:
    """A counterpart that runs; see tests/perf/torch_training.py for what it can be asked.

    It gets this process's environment, huge pages included.
    """

    def __init__(self, words: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        self.about = self._answer()

    @property
    def interpreter(self) -> str:
        """As $TORCH_PYTHON names it."""
        return self._process.args[0]  # pyright: ignore

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, what: str, **how: Any) -> dict[str, Any]:
        """Raises InputError with what it says where it cannot do it, or has ended."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer, which is none, says so
            self._process.stdin.write(json.dumps({"do": what, **how}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def way(self, what: str, **how: Any) -> Way:
        """What it times itself: so many `steps` of something."""
        return lambda steps: self.ask(what, steps=steps, **how)["seconds"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(
                f"--against torch: {self.interpreter} ended with exit code {self._process.wait()}; "
                "its last words are above"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(
                f"--against torch: PyTorch's counterpart failed: {answer['error']}; its traceback is above"
            )
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # what it was told last it may never have read
            self._process.stdin.close()


@contextmanager
def wanted(against_torch: bool, threads: int) -> Iterator[TorchPeer | None]:
    """A counterpart that runs on so many threads and is ended whatever happens, where it is asked for.

    Raises InputError where it cannot be started.
    """
    if not against_torch:
        yield None
        return
    peer = TorchPeer(command(threads))
    try:
        yield peer
    finally:
        peer.close()
