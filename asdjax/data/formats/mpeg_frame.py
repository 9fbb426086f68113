"""Frame headers of MPEG audio (ISO 11172-3, 13818-3)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MpegFrame:
    """Header of a frame: `length` in bytes, `samples` per channel. `mpeg1` is False for MPEG 2 and 2.5."""

    layer: int
    sample_rate_hz: int
    channels: int
    length: int
    samples: int
    mpeg1: bool


_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBIT: dict[tuple[bool, int], tuple[int, ...]] = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def read_mpeg_frame(head: bytes) -> MpegFrame | None:
    """Parse the first four bytes of a frame. Return None if they are none, or if the bit rate is free."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg1 = version == 3
    rate_hz, bits = _RATES_HZ[version][rate], 1000 * _KBIT[mpeg1, layer][bit_rate - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and not mpeg1 else 1152
    length = 4 * (12 * bits // rate_hz + padding) if layer == 1 else samples // 8 * bits // rate_hz + padding
    return MpegFrame(layer, rate_hz, 1 if head[3] >> 6 == 3 else 2, length, samples, mpeg1)
