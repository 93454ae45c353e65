"""Known data sets: downloaded or taken from a local archive, checked, and put in place whole.

A name and a folder go in; the class folders with the official lists beside them come out, or nothing.
Looks at no photo.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.dataset.catalog import Side
from ray_trash.dataset.official import OFFICIAL_LISTS, parse_official_list
from ray_trash.download import DEFAULT_PATIENCE, Patience, Progress, download
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.fetch.unpack import unpack

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal

MAX_LIST_BYTES = 1 << 20
_PART = "archive.part"
_UNPACKED = "unpacked"


@dataclass(frozen=True)
class KnownDataset:
    """Where a data set comes from, and how to tell that it is the right one, and whole.

    Attributes:
        archive_url: Of a zip or tar.gz file.
        archive_sha256: Of that file, in hex.
        archive_size_bytes: Of that file.
        archive_folder: The folder in the archive that holds the class folders.
        n_photos: In all class folders.
        lists_url: Of the folder of the official lists.
        n_listed: Lines of each list.
    """

    archive_url: str
    archive_sha256: str
    archive_size_bytes: int
    archive_folder: str
    n_photos: int
    lists_url: str
    n_listed: Mapping[Side, int]


TRASHNET = KnownDataset(
    archive_url="https://huggingface.co/datasets/garythung/trashnet/resolve/main/dataset-resized.zip",
    archive_sha256="c060e8abfe5d6de0578ca15be1ed8ad0794a865d333c3473d53d1d9ad6e38b8c",
    archive_size_bytes=42_834_870,
    archive_folder="dataset-resized",
    n_photos=2527,
    lists_url="https://raw.githubusercontent.com/garythung/trashnet/master/data",
    n_listed={"train": 1768, "val": 328, "test": 431},
)
"""TrashNet resized to 512x384, by Gary Thung and Mindy Yang, MIT licence."""

KNOWN_DATASETS = {"trashnet": TRASHNET}


@dataclass(frozen=True)
class Fetched:
    """What there is after a fetch.

    Attributes:
        root: The folder for `data.root`.
        n_photos: In it.
        was_there: Whether nothing had to be done.
        notes: What the user should know.
    """

    root: Path
    n_photos: int
    was_there: bool
    notes: tuple[str, ...] = ()


def fetch(
    name: str,
    destination: Path,
    *,
    archive: str | Path | None = None,
    url: str | None = None,
    progress: Progress | None = None,
    known: Mapping[str, KnownDataset] = KNOWN_DATASETS,
    patience: Patience = DEFAULT_PATIENCE,
) -> Fetched:
    """Put a known data set into a folder.

    What was downloaded is kept beside the folder until the set is complete, and a later call goes on
    from there. The folder itself appears with everything in it.

    Args:
        name: Of `known`.
        destination: A folder that is empty, not there yet, or holds the set already.
        archive: A local copy of the archive; it must have the right SHA-256 too. The lists are taken
            from beside it where they are.
        url: Download the archive from there instead.
        progress: Told how far the download of the archive is.
        known: The data sets there are.
        patience: When to give up on a server.

    Raises:
        ConfigError: No data set has that name.
        DataError: Something cannot be downloaded or is not what it should be, or the destination holds
            something else.
        StorageError: The destination cannot be written.
    """
    if name not in known:
        raise ConfigError(f"fetch {name}: no known data set; there is {', '.join(sorted(known))}")
    root = destination.expanduser().absolute()
    try:
        return _fetch(known[name], root, None if archive is None else Path(archive), url, progress, patience)
    except OSError as error:
        raise StorageError(f"{error.filename or root}: cannot be used: {error.strerror}") from error


def fetch_with_progress(
    name: str, destination: Path, *, archive: str | Path | None, terminal: Terminal
) -> dict[str, Any]:
    """Fetch as `fetch` does, and tell a person about it.

    Returns:
        `root`, `n_photos`, `was_there` and `notes` of `Fetched`, as JSON holds them.

    Raises:
        RayTrashError: What `fetch` raises.
    """
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=terminal.console, disable=not terminal.is_live) as bar:
        task = bar.add_task(name, total=None)
        fetched = fetch(
            name,
            destination,
            archive=archive,
            progress=lambda done, total: bar.update(task, completed=done, total=total or None),
        )
    what = "was complete, nothing to do" if fetched.was_there else "complete"
    for line in (f"{fetched.root}: {fetched.n_photos} photos, {what}", *fetched.notes):
        terminal.say(line)
    return {
        "root": str(fetched.root),
        "n_photos": fetched.n_photos,
        "was_there": fetched.was_there,
        "notes": list(fetched.notes),
    }


def _fetch(
    dataset: KnownDataset,
    root: Path,
    archive: Path | None,
    url: str | None,
    progress: Progress | None,
    patience: Patience,
) -> Fetched:
    n_there = _count_photos(root)
    has_photos = n_there == dataset.n_photos
    if has_photos and all((root / name).is_file() for name in OFFICIAL_LISTS.values()):
        _check_lists(root, root, dataset)
        return Fetched(root, dataset.n_photos, was_there=True)
    if not has_photos and os.path.lexists(root) and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(
            f"{root}: holds something else, or only a part of the set ({n_there} photos of"
            f" {dataset.n_photos}); name a folder that is empty or not there"
        )
    with _staging(root) as staging:
        if has_photos:
            source = staging / _UNPACKED
            source.mkdir()
        else:
            packed = archive or staging / _PART
            if archive is None:
                _download_archive(url or dataset.archive_url, packed, dataset, progress, patience)
            _check_archive(packed, dataset, is_ours=archive is None)
            source = _unpack_archive(packed, staging / _UNPACKED, dataset)
        notes = _collect_lists(source, dataset, archive, patience)
        if not notes:
            _check_lists(root if has_photos else source, source, dataset)
        if has_photos:
            for file in source.iterdir():
                os.replace(file, root / file.name)
        else:
            os.replace(source, root)
    return Fetched(root, dataset.n_photos, was_there=False, notes=notes)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    folder = root.parent / f".{root.name}.fetch"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{root}: another fetch is at work there; wait for it") from error
        shutil.rmtree(folder / _UNPACKED, ignore_errors=True)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder / _UNPACKED, ignore_errors=True)
            if not (folder / _PART).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _download_archive(
    url: str, target: Path, dataset: KnownDataset, progress: Progress | None, patience: Patience
) -> None:
    size_bytes = dataset.archive_size_bytes
    try:
        download(url, target, max_bytes=size_bytes, size_bytes=size_bytes, progress=progress, patience=patience)
    except DataError as error:
        raise DataError(f"{error}; without a network, `--archive FILE` takes a copy of {url}") from error


def _check_archive(archive: Path, dataset: KnownDataset, *, is_ours: bool) -> None:
    if not archive.is_file():
        raise DataError(f"--archive: {archive} is no file; expected a copy of {dataset.archive_url}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == dataset.archive_sha256:
        return
    size_bytes = archive.stat().st_size
    if is_ours:
        archive.unlink()
    raise DataError(
        f"{archive}: not the archive of {dataset.archive_url}: expected SHA-256 {dataset.archive_sha256}"
        f" ({dataset.archive_size_bytes} bytes), found {found} ({size_bytes} bytes); "
        + ("it was removed, run the command again" if is_ours else "copy it again")
    )


def _unpack_archive(archive: Path, target: Path, dataset: KnownDataset) -> Path:
    target.mkdir()
    unpack(archive, target)
    source = target / dataset.archive_folder
    n_photos = _count_photos(source)
    if n_photos != dataset.n_photos:
        raise DataError(
            f"{archive}: holds {n_photos} photos under {dataset.archive_folder}/, expected {dataset.n_photos}"
        )
    return source


def _collect_lists(folder: Path, dataset: KnownDataset, archive: Path | None, patience: Patience) -> tuple[str, ...]:
    try:
        for name in OFFICIAL_LISTS.values():
            if archive is not None and (archive.parent / name).is_file():
                shutil.copyfile(archive.parent / name, folder / name)
            else:
                url = f"{dataset.lists_url}/{name}"
                download(url, folder / name, max_bytes=MAX_LIST_BYTES, patience=patience)
    except DataError as error:
        if archive is None:
            raise
        for name in OFFICIAL_LISTS.values():
            (folder / name).unlink(missing_ok=True)
        return (
            f"without the official lists ({error}): put them beside {archive} and fetch again,"
            " or use data.split=stratified",
        )
    return ()


def _check_lists(photos: Path, lists: Path, dataset: KnownDataset) -> None:
    for side, name in OFFICIAL_LISTS.items():
        entries = parse_official_list((lists / name).read_bytes(), name)
        if len(entries) != dataset.n_listed[side]:
            raise DataError(
                f"{lists / name}: {len(entries)} lines, expected {dataset.n_listed[side]}; remove it and fetch again"
            )
        for entry in entries:
            if not (photos / entry.label / entry.name).is_file():
                raise DataError(f"{entry.place}: there is no {entry.label}/{entry.name} in {photos}")


def _count_photos(root: Path) -> int:
    return sum(
        path.is_file() and not path.name.startswith(".") and not path.parent.name.startswith(".")
        for path in root.glob("*/*")
    )
