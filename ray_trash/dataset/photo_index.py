"""Which of the listed photos a path means that somebody else wrote: on Windows, on another machine, by a bare name."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.names import looks_like_photo, nfc
from ray_trash.dataset.table import Table
from ray_trash.errors import DataError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted

Said = TypeVar("Said")


class PhotoIndex:
    """The files below a data root, found by how a table writes them; nothing is opened.

    A path may have backslashes, `./`, a drive or another folder in front of the root's own name, or that name alone. It
    may leave out folders at its beginning and a photo's suffix at its end, and differ in case and Unicode form.
    """

    def __init__(self, paths: pa.ChunkedArray, root: str) -> None:
        """Index the paths of files relative to a root; they are sorted, and none comes twice."""
        place = Storage.at(root)
        self.root = place.uri
        self.paths = paths.combine_chunks()
        self._root_names = {posixpath.basename(place.path)}
        if place.is_local:
            self._root_names.add(os.path.basename(os.path.realpath(place.path)))
        # Hashes, sorted, and what each is of: as dicts of lists of names a photo would take a kilobyte.
        forms = np.fromiter(self._forms(), [("by_path", np.int64), ("by_name", np.int64), ("form", np.int64)])
        self._by_path, self._by_name = (_sorted_by(forms[key], forms["form"]) for key in ("by_path", "by_name"))

    def shown(self) -> str:
        """Count the files for a message, and name one."""
        example = f", such as {self.paths[0].as_py()!r}" if len(self.paths) else ""
        return f"{counted(len(self.paths), 'file')}{example}"

    def find(self, written: str) -> Sequence[int]:
        """Return the positions of the paths that fit best: none, one, or several where it does not say which."""
        text = nfc(written)
        for position, _ in self._known(self._by_path, text.casefold()):
            if self.paths[position].as_py() == written:
                return [position]
        for tail in self._readings(nfc(written.strip())):
            folded = tail.casefold()
            fitting = [one for one in self._known(self._by_path, folded) if one[1].casefold() == folded] or [
                one
                for one in self._known(self._by_name, posixpath.basename(folded))
                if one[1].casefold().endswith(f"/{folded}")
            ]
            if fitting:
                in_same_case = [position for position, known in fitting if known.endswith(tail)]
                return in_same_case or [position for position, _ in fitting]
        return []

    def _forms(self) -> Iterator[tuple[int, int, int]]:
        for position, (path,) in enumerate(rows_in(pa.table({"path": self.paths}), "path")):
            for form, known in enumerate(_forms_of(path)):
                yield hash(known.casefold()), hash(posixpath.basename(known).casefold()), position << 1 | form

    def _known(self, forms: tuple[NDArray[np.int64], NDArray[np.int64]], key: str) -> Iterator[tuple[int, str]]:
        """Yield the positions of the paths that may be known by a key, and what they are known as."""
        hashes, numbers = forms
        first, end = np.searchsorted(hashes, hash(key)), np.searchsorted(hashes, hash(key), side="right")
        for number in numbers[first:end].tolist():
            yield number >> 1, _forms_of(self.paths[number >> 1].as_py())[number & 1]

    def _readings(self, written: str) -> Iterator[str]:
        parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return
        is_absolute = written[0] in "/\\" or parts[0] in ("..", "~") or parts[0].endswith(":")
        if not is_absolute:
            yield "/".join(parts)
        for number, part in enumerate(parts[:-1], start=1):
            if part in self._root_names and (number == 1 or is_absolute):
                yield "/".join(parts[number:])


@dataclass(frozen=True)
class Matches(Generic[Said]):
    """What the rows of a table say.

    Attributes:
        said: Each thing that is said of a photo, once.
        codes: Which of them is said of each path of the index; -1 where nothing is.
        missing: What is said of what is not among the paths.
    """

    said: Sequence[Said]
    codes: NDArray[np.int64]
    missing: Mapping[str, Said]


def match_rows(
    table: Table, path_column: int, index: PhotoIndex, understand: Callable[[Sequence[str]], Said]
) -> Matches[Said]:
    """Match the rows of a table with photos, and have `understand` read the cells of each.

    Raises:
        DataError: `understand` raised a `ValueError`, a row fits several photos or contradicts another, or none fits.
    """
    numbers: dict[Said, int] = {}
    codes, first = np.full(len(index.paths), -1, np.int64), np.full(len(index.paths), -1, np.int64)
    missing: dict[str, tuple[Said, int]] = {}
    for number, (line, cells) in enumerate(table.rows()):
        written, place = cells[path_column], f"{table.where}, line {line}"
        try:
            said = understand(cells)
        except ValueError as error:
            raise DataError(f"{place}: {error}: {table.shown(cells)}") from error
        positions = index.find(written)
        if len(positions) > 1:
            one, other = (index.paths[position].as_py() for position in positions[:2])
            raise DataError(f"{place}: {written!r} may be {one!r} or {other!r}; write the folder before it")
        if positions:
            path, position = index.paths[positions[0]].as_py(), positions[0]
            if first[position] < 0:
                codes[position], first[position] = numbers.setdefault(said, len(numbers)), number
            agrees, before = numbers.get(said) == codes[position], int(first[position])
        else:
            path = written
            known, before = missing.setdefault(path, (said, number))
            agrees = known == said
        if not agrees:
            earlier, those = table.row(before)
            raise DataError(
                f"{place}: {path!r} is listed a second time, {table.shown(cells)}; "
                f"before, in line {earlier}, {table.shown(those)}"
            )
    if (codes < 0).all():
        raise DataError(_no_match(table, path_column, index))
    return Matches(list(numbers), codes, {path: said for path, (said, _) in missing.items()})


def _forms_of(path: str) -> tuple[str, ...]:
    text = nfc(path)
    return (text, posixpath.splitext(text)[0]) if looks_like_photo(text) else (text,)


def _sorted_by(hashes: NDArray[np.int64], forms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(hashes, kind="stable")
    return hashes[order], forms[order]


def _no_match(table: Table, path_column: int, index: PhotoIndex) -> str:
    if not len(table):
        return f"{table.where} has no row below its first line, {','.join(table.header)!r}"
    _, cells = table.row(0)
    return (
        f"{table.where}: none of its {counted(len(table), 'row')} names a file below {index.root}; the first is "
        f"{table.shown(cells)}, so {cells[path_column]!r} was looked for among {index.shown()}"
    )
