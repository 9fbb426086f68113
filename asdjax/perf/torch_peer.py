"""The PyTorch counterpart: a process under the interpreter in $TORCH_PYTHON that answers JSON requests line by line."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from asdjax.errors import InputError
from asdjax.perf import clone_tools
from asdjax.perf.measure import TimedRun

INTERPRETER = "TORCH_PYTHON"
SCRIPT = clone_tools.FOLDER / "torch_training.py"

# Only a Python interpreter that has torch prints 42.
PROBE = "import torch; print(6 * 7)"


def make_command(threads: int) -> list[str]:
    """Return the command that starts the counterpart.

    Raises InputError without an interpreter that has torch, and without the counterpart's script.
    """
    interpreter = os.environ.get(INTERPRETER, "")
    clone_tools.require_tool(SCRIPT, "--against torch")
    if fault := _find_fault(interpreter):
        raise InputError(
            f"--against torch: expected {INTERPRETER} to be the path of a Python interpreter that has torch, got "
            f"{fault}; make one by: python -m venv torch && torch/bin/pip install torch librosa"
        )
    return [interpreter, str(SCRIPT), str(threads)]


def _find_fault(interpreter: str) -> str:
    """Return why it is not an interpreter that has torch; empty if it is one."""
    if not interpreter:
        return "none (it is not set)"
    try:
        ran = subprocess.run([interpreter, "-c", PROBE], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        return f"{interpreter} ({error.strerror})"
    if ran.returncode == 0 and ran.stdout.split() == ["42"]:
        return ""
    last = ran.stderr.strip().splitlines()[-1:] or ["no Python"]
    return f"{interpreter} ({last[0]})"


class TorchPeer:
    """A running counterpart. tests/perf/torch_training.py defines its requests.

    It inherits this process's environment, huge pages included.
    """

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        #: Its description: versions, device, ways to run.
        self.about = self._read_answer()

    @property
    def interpreter(self) -> str:
        """Return the interpreter as $TORCH_PYTHON names it."""
        return self._process.args[0]  # pyright: ignore

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def request(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Call one of its methods and return the answer.

        Raises InputError with its message if it fails, or has ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading the answer fails, too, and says more
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._read_answer()

    def time(self, what: str, **arguments: Any) -> TimedRun:
        """Return a timed run of a method that takes `steps` and measures its own seconds."""
        return lambda steps: self.request(what, steps=steps, **arguments)["seconds"]

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(
                f"--against torch: expected an answer of {self.interpreter}, got exit code {self._process.wait()}; see "
                "its messages above"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(
                f"--against torch: the PyTorch counterpart failed: {answer['error']}; see its traceback above"
            )
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # it may not have read the last request
            self._process.stdin.close()


@contextmanager
def start(threads: int) -> Iterator[TorchPeer]:
    """Run a counterpart with this many threads; it is ended in any case.

    Raises InputError if it cannot be started.
    """
    peer = TorchPeer(make_command(threads))
    try:
        yield peer
    finally:
        peer.close()
