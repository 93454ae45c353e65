"""The coded pictures inside AVIF and HEIC: how large they are, and how often a decoder would draw them.

A container may claim any size; what the decoder takes memory and time for stands in AV1's sequence header and in
HEVC's parameter sets. Sources: AV1 Bitstream Specification, 5.5; ITU-T H.265, 7.3; ISO/IEC 14496-15, 8.3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ray_trash.image.container.layout import Format, undecodable

_MAX_UNITS = 200
"""Most units of one coded picture; encoders write 2 to 30."""
_MAX_HEADERS = 16
"""Most sequence headers or parameter sets of one coded picture; encoders write 1 to 4."""
_HEADER_BYTES = 128
"""Longest parameter set that is read: the size stands in its first 60 bytes, or it is nonsense."""

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_PARAMETER_SET = 33
_SLICES = range(32)


class Coded(NamedTuple):
    """One coded picture; `drawn` counts its frames or slices, each of which may draw all of it."""

    width_px: int
    height_px: int
    drawn: int


class _Bits:
    """Big-endian bits, followed by endless ones, so that nothing of variable length goes on for ever."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._position = 0

    def take(self, n: int) -> int:
        start, self._position = self._position, self._position + n
        return int(self._bits[start : self._position].ljust(n, "1") or "0", 2)

    def golomb(self) -> int:
        zeros = 0
        while zeros < 32 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def read_av1(data: bytes, name: Format) -> Coded:
    """Measure the AV1 pictures of one item: the largest frame its sequence headers allow."""
    headers, drawn = [], 0
    for kind, payload in _obus(data, name):
        if kind == _SEQUENCE_HEADER:
            headers.append(payload[:_HEADER_BYTES])
        drawn += kind in (_FRAME_HEADER, _FRAME)
    return _largest(headers, _sequence_size, drawn, name)


def _largest(headers: Sequence[bytes], size_in: Callable[[bytes], tuple[int, int]], drawn: int, name: Format) -> Coded:
    if not headers or not drawn:
        raise undecodable(name, "there is no picture in it")
    if len(headers) > _MAX_HEADERS:
        raise undecodable(name, f"its picture has {len(headers)} headers")
    sizes = [size_in(header) for header in headers]
    return Coded(max(width for width, _ in sizes), max(height for _, height in sizes), drawn)


def _obus(data: bytes, name: Format) -> Iterator[tuple[int, bytes]]:
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            return
        header = data[position]
        position += 2 if header & 4 else 1
        length = len(data) - position
        if header & 2:
            length, position = _leb128(data, position)
        if length < 0 or position + length > len(data):
            raise undecodable(name, "a part of its picture is longer than the picture")
        yield header >> 3 & 15, data[position : position + length]
        position += length
    raise undecodable(name, f"its picture has more than {_MAX_UNITS:,} parts")


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        byte = data[position] if position < len(data) else 0
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, position


def _sequence_size(header: bytes) -> tuple[int, int]:
    bits = _Bits(header)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # the short header of a still picture
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.golomb()
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)


def read_hevc(config: bytes, data: bytes, name: Format) -> Coded:
    """Measure the HEVC pictures of one item, whose `hvcC` box is `config`."""
    if len(config) < 23:
        raise undecodable(name, "its decoder configuration is cut off")
    units = list(_configured(config))
    drawn, position, length_bytes = 0, 0, (config[21] & 3) + 1
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            break
        start = position + length_bytes
        position = start + int.from_bytes(data[position:start], "big")
        unit = data[start:position]
        if not unit or position > len(data):
            raise undecodable(name, "a part of its picture has no end")
        drawn += _unit_kind(unit) in _SLICES
        units.append(unit)
    else:
        raise undecodable(name, f"its picture has more than {_MAX_UNITS:,} parts")
    headers = [unit for unit in units if _unit_kind(unit) == _PARAMETER_SET]
    return _largest(headers, _parameter_set_size, drawn, name)


def _unit_kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63 if unit else -1


def _configured(config: bytes) -> Iterator[bytes]:
    position = 23
    for _ in range(config[22]):
        if position > len(config):
            return
        n_units = int.from_bytes(config[position + 1 : position + 3], "big")
        position += 3
        for _ in range(min(n_units, _MAX_HEADERS + 1)):
            start = position + 2
            position = start + int.from_bytes(config[position:start], "big")
            yield config[start:position]


def _parameter_set_size(unit: bytes) -> tuple[int, int]:
    # A byte 3 after two zeros is no content: it keeps a start code from appearing in it.
    bits = _Bits(unit[2:_HEADER_BYTES].replace(b"\x00\x00\x03", b"\x00\x00"))
    bits.take(4)
    sub_layers = bits.take(3)
    bits.take(1 + 96)  # profile, tier and level
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    bits.take(2 * (8 - sub_layers) if sub_layers else 0)
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.golomb()
    if bits.golomb() == 3:  # chroma as fine as luma
        bits.take(1)
    return bits.golomb(), bits.golomb()
