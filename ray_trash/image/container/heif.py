"""AVIF and HEIC, both HEIF: the items that make up the still picture, measured before a decoder sees them.

Sources: ISO/IEC 14496-12 for boxes, 23008-12 for items and their properties. What two readers might read differently,
such as an item that is described twice, is refused. A sequence is its still picture; its tracks are hidden.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ray_trash.errors import ImageError
from ray_trash.image.container.boxes import Box, Reader, boxes_in
from ray_trash.image.container.coded import Coded, read_av1, read_hevc
from ray_trash.image.container.layout import (
    MAX_BLOCKS,
    MAX_PIXELS,
    Container,
    Format,
    check_pixels,
    truncated,
    undecodable,
    unsupported_kind,
)

_CODECS: dict[Format, bytes] = {"AVIF": b"av01", "HEIC": b"hvc1"}
_STILL_BRANDS = {b"avis": b"avif", b"msf1": b"mif1", b"hevc": b"heic", b"hevx": b"heix"}
"""What a sequence calls itself, and what its still picture would."""

MAX_DRAWN_PIXELS = 4 * MAX_PIXELS
"""Pixels of all tiles and transparency, times the frames or slices that draw them: a slice of a few bytes may draw the
whole picture again, at up to 15 ns a pixel. The largest photo with transparency draws half of this."""
_MAX_META_BYTES = 2 << 20
"""Longest description of all items, which is walked number by number: a thousand items take 100 kB."""
_MAX_TILES = 1000
"""Most tiles of a picture. Source: libheif's own limit of items; a phone's 48 million pixels have 192."""
_MAX_DEPTH = 3
"""A picture, its tiles, and their transparency."""

# Orientation by quarter turns against the clock (`irot`), then by what is exchanged (`imir`): nothing, top and bottom,
# left and right.
_ORIENTATIONS = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


class _Items:
    """What the `meta` box says of each item."""

    def __init__(self, encoded: bytes, meta: Box, name: Format) -> None:
        self.encoded, self.name = encoded, name
        self.kinds: dict[int, bytes] = {}
        self.metadata: list[int] = []  # where the kinds of EXIF and text stand
        self.properties: dict[int, list[Box]] = {}
        self.parts: dict[int, list[tuple[int, int]]] = {}
        self.tiles: dict[int, list[int]] = {}
        self.auxiliary: dict[int, set[int]] = {}
        self._used: set[int] = set()
        if meta.end - meta.start > _MAX_META_BYTES:
            raise undecodable(name, "the description of its items is too long")
        boxes: dict[bytes, Box] = {}
        for box in boxes_in(encoded, meta._replace(start=meta.start + 4), name):
            if boxes.setdefault(box.kind, box) is not box and box.kind not in (b"free", b"skip"):
                raise undecodable(name, "a box is there twice")
        missing = {b"pitm", b"iinf", b"iloc", b"iprp"} - boxes.keys()
        if missing:
            raise undecodable(name, f"it has no {min(missing).decode()} box")
        reader = Reader(encoded, boxes[b"pitm"], name)
        self.primary = reader.take(2 if reader.version() == 0 else 4)
        self._read_kinds(boxes[b"iinf"])
        self._read_properties(boxes[b"iprp"])
        self._read_places(boxes[b"iloc"], boxes.get(b"idat"))
        if b"iref" in boxes:
            self._read_references(boxes[b"iref"])
        if sum(length for parts in self.parts.values() for _, length in parts) > len(encoded):
            raise undecodable(name, "its items lie over one another")

    def _once(self, table: Mapping[int, object], item: int) -> int:
        if item in table:
            raise undecodable(self.name, f"item {item} is described twice")
        return item

    def _read_kinds(self, box: Box) -> None:
        reader = Reader(self.encoded, box, self.name)
        reader.take(2 if reader.version() == 0 else 4)
        for info in boxes_in(self.encoded, box._replace(start=reader.position), self.name):
            entry = Reader(self.encoded, info, self.name)
            version = entry.version()
            if info.kind != b"infe" or version < 2:
                raise undecodable(self.name, "it lists its items in a way of before 2012")
            item = self._once(self.kinds, entry.take(2 if version == 2 else 4))
            entry.take(2)
            kind = self.kinds[item] = entry.take(4).to_bytes(4, "big")
            if kind in (b"Exif", b"mime"):
                self.metadata.append(entry.position - 4)

    def _read_properties(self, box: Box) -> None:
        every: list[Box] = []
        for inner in boxes_in(self.encoded, box, self.name):
            if inner.kind == b"ipco":
                every += boxes_in(self.encoded, inner, self.name)
        for inner in boxes_in(self.encoded, box, self.name):
            if inner.kind != b"ipma":
                continue
            reader = Reader(self.encoded, inner, self.name)
            flags = reader.take(4)
            for _ in range(self._count(reader.take(4))):
                item = self._once(self.properties, reader.take(4 if flags >> 24 else 2))
                wide = flags & 1
                numbers = [reader.take(2) & 0x7FFF if wide else reader.take(1) & 0x7F for _ in range(reader.take(1))]
                if max(numbers, default=0) > len(every):
                    raise undecodable(self.name, "an item has a property that is not there")
                self.properties[item] = [every[number - 1] for number in numbers if number]

    def _read_places(self, box: Box, idat: Box | None) -> None:
        reader = Reader(self.encoded, box, self.name)
        version = reader.version()
        sizes = reader.take(2)
        offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_bytes = sizes & 15 if version else 0
        if not length_bytes:
            raise undecodable(self.name, "its items have no length")
        for _ in range(self._count(reader.take(2 if version < 2 else 4))):
            item = self._once(self.parts, reader.take(2 if version < 2 else 4))
            method = reader.take(2) & 15 if version else 0
            reader.take(2)
            base = reader.take(base_bytes)
            start, end = (0, len(self.encoded)) if method == 0 else (idat.start, idat.end) if idat else (0, 0)
            parts = self.parts[item] = []
            for _ in range(reader.take(2)):
                reader.take(index_bytes)
                place, length = start + base + reader.take(offset_bytes), reader.take(length_bytes)
                if method > 1:
                    raise unsupported_kind(self.name, "a picture made of pieces of another")
                if place + length > end:
                    raise truncated(self.name)
                parts.append((place, length))

    def _read_references(self, box: Box) -> None:
        reader = Reader(self.encoded, box, self.name)
        id_bytes = 4 if reader.version() else 2
        for inner in boxes_in(self.encoded, box._replace(start=reader.position), self.name):
            entry = Reader(self.encoded, inner, self.name)
            item = entry.take(id_bytes)
            others = [entry.take(id_bytes) for _ in range(entry.take(2))]
            if inner.kind == b"dimg":
                self.tiles[self._once(self.tiles, item)] = others
            elif inner.kind == b"auxl":
                for other in others:
                    self.auxiliary.setdefault(other, set()).add(item)

    def _count(self, n: int) -> int:
        if n > MAX_BLOCKS:
            raise undecodable(self.name, f"it has {n:,} items")
        return n

    def data(self, item: int) -> bytes:
        """Return an item's bytes."""
        return b"".join(self.encoded[start : start + length] for start, length in self.parts.get(item, ()))

    def property(self, item: int, kind: bytes) -> bytes | None:
        """Return the content of an item's only property of a kind."""
        found = [box for box in self.properties.get(item, ()) if box.kind == kind]
        if len(found) > 1:
            raise undecodable(self.name, f"item {item} has two properties {kind.decode()}")
        return self.encoded[found[0].start : found[0].end] if found else None

    def size(self, item: int) -> tuple[int, int]:
        """Return the width and height an item claims, in pixels."""
        extents = self.property(item, b"ispe")
        if extents is None or len(extents) < 12:
            raise undecodable(self.name, "its picture has no size")
        width_px, height_px = struct.unpack_from(">II", extents, 4)
        check_pixels(self.name, width_px, height_px)
        return width_px, height_px

    def drawn_pixels(self, item: int, depth: int = 0) -> int:
        """Check an item, what it is made of and its transparency, and count the pixels that are drawn for it."""
        if depth == _MAX_DEPTH or item in self._used:
            raise undecodable(self.name, "its pictures are made of one another")
        self._used.add(item)
        size, kind = self.size(item), self.kinds.get(item)
        auxiliary = sum(self.drawn_pixels(other, depth + 1) for other in self.auxiliary.get(item, ()))
        if kind == b"grid":
            return auxiliary + self._drawn_by_tiles(item, size, depth)
        if kind != _CODECS[self.name]:
            said = "no picture" if kind is None else f"a picture of the kind {kind.decode('latin-1')!r}"
            raise unsupported_kind(self.name, said)
        coded = self._coded(item)
        check_pixels(self.name, coded.width_px, coded.height_px)
        if size[0] > coded.width_px or size[1] > coded.height_px:
            raise undecodable(self.name, f"it claims {size[0]}x{size[1]} pixels and holds fewer")
        return auxiliary + coded.width_px * coded.height_px * coded.drawn

    def _drawn_by_tiles(self, item: int, size: tuple[int, int], depth: int) -> int:
        tiles, grid = self.tiles.get(item, []), self.data(item)
        side_bytes = 4 if grid[1:2] and grid[1] & 1 else 2
        if len(grid) < 4 + 2 * side_bytes or len(tiles) != (grid[2] + 1) * (grid[3] + 1) or len(tiles) > _MAX_TILES:
            raise undecodable(self.name, "its tiles do not fit its grid")
        if size != struct.unpack_from(">II" if side_bytes == 4 else ">HH", grid, 4):
            raise undecodable(self.name, "its grid has another size than it says")
        if any(self.kinds.get(tile) == b"grid" for tile in tiles):
            raise undecodable(self.name, "a tile of it is made of tiles")
        return sum(self.drawn_pixels(tile, depth + 1) for tile in tiles)

    def _coded(self, item: int) -> Coded:
        if self.name == "AVIF":
            return read_av1(self.data(item), self.name)
        return read_hevc(self.property(item, b"hvcC") or b"", self.data(item), self.name)


def read_avif(encoded: bytes) -> Container:
    """Measure an AVIF picture; Pillow leaves it as it is stored, so its orientation is to be applied."""
    items, picture = _read(encoded, "AVIF")
    return Container("AVIF", *items.size(items.primary), picture, _orientation(items))


def read_heic(encoded: bytes) -> Container:
    """Measure a HEIC picture; libheif crops it and turns it upright."""
    items, picture = _read(encoded, "HEIC")
    size, aperture = items.size(items.primary), items.property(items.primary, b"clap")
    if aperture is not None and len(aperture) >= 16:
        width, width_parts, height, height_parts = struct.unpack_from(">IIII", aperture)
        size = (min(size[0], width // max(1, width_parts)), min(size[1], height // max(1, height_parts)))
    return Container("HEIC", *(size[::-1] if _orientation(items) > 4 else size), picture)


def _read(encoded: bytes, name: Format) -> tuple[_Items, bytes]:
    top: list[Box] = []
    try:
        top.extend(boxes_in(encoded, Box(b"", 0, 0, len(encoded)), name))
    except ImageError:
        # What follows the picture's description may be anything; whether the picture is there is asked of its items.
        if not any(box.kind == b"meta" for box in top):
            raise
    meta = [box for box in top if box.kind == b"meta"]
    if len(meta) != 1:
        raise undecodable(name, "it has no still picture")
    items = _Items(encoded, meta[0], name)
    if items.drawn_pixels(items.primary) > MAX_DRAWN_PIXELS:
        raise undecodable(name, "its parts would take too long to decode")
    # In place, since items are found by their distance from the file's start.
    picture = bytearray(encoded)
    for box in top:
        if box.kind == b"ftyp":
            for start in (box.start, *range(box.start + 8, box.end - 3, 4)):
                picture[start : start + 4] = _STILL_BRANDS.get(encoded[start : start + 4], encoded[start : start + 4])
        elif box.kind not in (b"meta", b"mdat"):
            picture[box.header + 4 : box.header + 8] = b"free"
    for start in items.metadata:
        picture[start : start + 4] = b"skip"
    return items, bytes(picture)


def _orientation(items: _Items) -> int:
    turns, mirror = items.property(items.primary, b"irot"), items.property(items.primary, b"imir")
    exchanged = 0 if not mirror else 1 + (mirror[0] & 1)
    return _ORIENTATIONS[turns[0] & 3 if turns else 0][exchanged]
