"""Which of the listed photos a path means that somebody else wrote: on Windows, on another machine, by a bare name."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

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

    def __init__(self, paths: Iterable[str], root: str) -> None:
        """Index the paths of files relative to a root."""
        place = Storage.at(root)
        self.root = place.uri
        self._paths = frozenset(paths)
        self._root_names = {posixpath.basename(place.path)}
        if place.is_local:
            self._root_names.add(os.path.basename(os.path.realpath(place.path)))
        self._by_path: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        self._by_name: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for path in sorted(self._paths):
            text = nfc(path)
            for known in (text, posixpath.splitext(text)[0]) if looks_like_photo(text) else (text,):
                self._by_path[known.casefold()].append((known, path))
                self._by_name[posixpath.basename(known).casefold()].append((known, path))

    def shown(self) -> str:
        """Count the files for a message, and name one."""
        example = f", such as {min(self._paths)!r}" if self._paths else ""
        return f"{counted(len(self._paths), 'file')}{example}"

    def find(self, written: str) -> Sequence[str]:
        """Return the paths that fit best: none, one, or several where it does not say which."""
        if written in self._paths:
            return [written]
        for tail in self._readings(nfc(written.strip())):
            folded = tail.casefold()
            named = self._by_name.get(posixpath.basename(folded), [])
            fitting = self._by_path.get(folded) or [one for one in named if one[0].casefold().endswith(f"/{folded}")]
            if fitting:
                in_same_case = [path for text, path in fitting if text.endswith(tail)]
                return in_same_case or [path for _, path in fitting]
        return []

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


def match_rows(
    table: Table, path_column: int, index: PhotoIndex, understand: Callable[[Sequence[str]], Said]
) -> tuple[dict[str, Said], dict[str, Said]]:
    """Return what each row says, as `understand` reads its cells: of listed photos, and of what is not among them.

    Raises:
        DataError: `understand` raised a `ValueError`, a row fits several photos or contradicts another, or none fits.
    """
    found: dict[str, Said] = {}
    missing: dict[str, Said] = {}
    first: dict[str, str] = {}
    for line, cells in table.rows:
        written, place = cells[path_column], f"{table.where}, line {line}"
        try:
            said = understand(cells)
        except ValueError as error:
            raise DataError(f"{place}: {error}: {table.shown(cells)}") from error
        paths = index.find(written)
        if len(paths) > 1:
            raise DataError(f"{place}: {written!r} may be {paths[0]!r} or {paths[1]!r}; write the folder before it")
        known, path = (found, paths[0]) if paths else (missing, written)
        if known.setdefault(path, said) != said:
            raise DataError(f"{place}: {path!r} is listed a second time, {table.shown(cells)}; before, {first[path]}")
        first.setdefault(path, f"in line {line}, {table.shown(cells)}")
    if not found:
        raise DataError(_no_match(table, path_column, index))
    return found, missing


def _no_match(table: Table, path_column: int, index: PhotoIndex) -> str:
    if not table.rows:
        return f"{table.where} has no row below its first line, {','.join(table.header)!r}"
    _, cells = table.rows[0]
    return (
        f"{table.where}: none of its {counted(len(table.rows), 'row')} names a file below {index.root}; the first is "
        f"{table.shown(cells)}, so {cells[path_column]!r} was looked for among {index.shown()}"
    )
