"""Sound of a microphone through `sounddevice`, which is not installed with asdjax."""

import queue
from collections.abc import Iterator
from time import monotonic
from typing import Any

import numpy as np

from asdjax.data.sound_stream import GAP_S, Gap
from asdjax.errors import InputError

#: Seconds of a block, and blocks that wait at most before new ones are lost.
_BLOCK_S, _MOST_BLOCKS = 0.25, 240


class Microphone:
    """The blocks of a microphone: int16 (s,) at a rate, and a Gap where samples were lost.

    `device` is a name or number of `python -m sounddevice`; None for the default one. Raises InputError if there is no
    such device, if it does not have the rate, or if sounddevice or its library PortAudio is missing.
    """

    def __init__(self, device: str | None, sample_rate_hz: int) -> None:
        self._rate, self._lost = sample_rate_hz, 0
        self._blocks: queue.Queue[tuple[int, np.ndarray]] = queue.Queue(_MOST_BLOCKS)
        sounddevice = _import_sounddevice()
        try:
            self._stream = sounddevice.RawInputStream(
                samplerate=sample_rate_hz,
                blocksize=round(_BLOCK_S * sample_rate_hz),
                device=int(device) if device and device.isdecimal() else device,
                channels=1,
                dtype="int16",
                callback=self._take,
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise InputError(
                f"microphone {device or 'of the system'}: expected one with {sample_rate_hz} Hz, got {error}; "
                "python -m sounddevice lists what there is"
            ) from error

    def __iter__(self) -> Iterator[np.ndarray | Gap]:
        """Yield blocks and gaps. Raises InputError when the device has stopped, as one that was unplugged."""
        last_at, is_waiting = monotonic(), False
        while True:
            try:
                lost, block = self._blocks.get(timeout=GAP_S)
            except queue.Empty:
                if not self._stream.active:
                    why = "microphone: expected sound, got none any more; plug it in, and start again"
                    raise InputError(why) from None
                if not is_waiting:
                    yield Gap("waiting", GAP_S)
                is_waiting = True
                continue
            seconds = monotonic() - last_at if is_waiting else lost / self._rate
            last_at, is_waiting = monotonic(), False
            if seconds:
                yield Gap("gap", seconds)
            yield block

    def _take(self, content: Any, frames: int, time: Any, status: Any) -> None:
        """Take a block from the driver's thread. `status` shows that the driver has lost some, not how many."""
        if status and status.input_overflow:
            self._lost += frames
        try:
            self._blocks.put_nowait((self._lost, np.frombuffer(content, np.int16).copy()))
            self._lost = 0
        except queue.Full:
            self._lost += frames


def _import_sounddevice() -> Any:
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # the package or PortAudio
        raise InputError(
            f"microphone: expected the package sounddevice, got none ({error}); pip install sounddevice, and PortAudio "
            "(apt-get install libportaudio2)"
        ) from error
    return sounddevice
