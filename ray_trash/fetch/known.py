"""Known data sets: downloaded or taken from a local archive, checked, and put in place whole.

The class folders with the official lists beside them come out, or nothing. Looks at no photo.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray_trash.dataset.catalog import Side
from ray_trash.dataset.official import OFFICIAL_LISTS, parse_official_list
from ray_trash.download import DEFAULT_PATIENCE, OnBytes, Patience, download
from ray_trash.errors import ConfigError, DataError, StorageError

MAX_LIST_BYTES = 1 << 20
_PART = "archive.part"
_UNPACKED = "unpacked"


@dataclass(frozen=True)
class KnownDataset:
    """Where a data set comes from, and how to tell that it is the right one, and whole.

    The archive is a zip file with the class folders below `archive_folder`; each official list, in the folder at
    `lists_url`, has `n_listed` lines.
    """

    archive_url: str
    archive_sha256: str
    archive_size_bytes: int
    archive_folder: str
    n_photos: int
    lists_url: str
    n_listed: Mapping[Side, int]


KNOWN_DATASETS = {
    # Resized to 512x384, by Gary Thung and Mindy Yang, MIT licence.
    "trashnet": KnownDataset(
        archive_url="https://huggingface.co/datasets/garythung/trashnet/resolve/main/dataset-resized.zip",
        archive_sha256="c060e8abfe5d6de0578ca15be1ed8ad0794a865d333c3473d53d1d9ad6e38b8c",
        archive_size_bytes=42_834_870,
        archive_folder="dataset-resized",
        n_photos=2527,
        lists_url="https://raw.githubusercontent.com/garythung/trashnet/master/data",
        n_listed={"train": 1768, "val": 328, "test": 431},
    )
}


@dataclass(frozen=True)
class Fetched:
    """What there is after a fetch; `was_there` where nothing had to be done, `notes` for the user."""

    root: Path
    n_photos: int
    was_there: bool
    notes: tuple[str, ...] = ()


def fetch(
    name: str,
    destination: Path,
    *,
    archive: str | Path | None = None,
    on_bytes: OnBytes | None = None,
    known: Mapping[str, KnownDataset] = KNOWN_DATASETS,
    patience: Patience = DEFAULT_PATIENCE,
) -> Fetched:
    """Put a known data set into a folder that is empty or not there yet; it appears with everything in it.

    What was downloaded is kept beside the folder until the set is complete, and a later call goes on from there.
    With a local `archive`, the lists are taken from beside it where they are.

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
        return _fetch(known[name], root, Path(archive) if archive else None, on_bytes, patience)
    except OSError as error:
        raise StorageError(f"{error.filename or root}: cannot be used: {error.strerror}") from error


def _fetch(
    dataset: KnownDataset, root: Path, local_archive: Path | None, on_bytes: OnBytes | None, patience: Patience
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
        source = staging / _UNPACKED
        if has_photos:
            source.mkdir()
        else:
            archive = local_archive or _download_archive(staging / _PART, dataset, on_bytes, patience)
            _check_archive(archive, dataset, is_ours=local_archive is None)
            source = _unpack(archive, source, dataset)
        notes = _collect_lists(source, dataset, local_archive, patience)
        if not notes:
            _check_lists(root if has_photos else source, source, dataset)
        if has_photos:
            for file in source.iterdir():
                os.replace(file, root / file.name)
        else:
            if root.is_dir():
                root.rmdir()  # it is empty, and not every file system renames over it
            os.replace(source, root)
        (staging / _PART).unlink(missing_ok=True)
    return Fetched(root, dataset.n_photos, was_there=False, notes=notes)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Lend a folder beside the root to one fetch; afterwards it holds the archive that is not done yet, or is gone."""
    folder = root.parent / f".{root.name}.fetch"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{root}: another fetch is at work there; wait for it") from error
        # A fetch that was killed left it.
        shutil.rmtree(folder / _UNPACKED, ignore_errors=True)
        try:
            yield folder
        finally:
            is_kept = (folder / _PART).exists()
            shutil.rmtree(folder / _UNPACKED if is_kept else folder, ignore_errors=True)


def _download_archive(target: Path, dataset: KnownDataset, on_bytes: OnBytes | None, patience: Patience) -> Path:
    url, size_bytes = dataset.archive_url, dataset.archive_size_bytes
    try:
        download(url, target, max_bytes=size_bytes, size_bytes=size_bytes, on_bytes=on_bytes, patience=patience)
    except DataError as error:
        raise DataError(
            f"{error}; run the command again to go on; without a network, `--archive FILE` takes a copy of {url}"
        ) from error
    return target


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


def _unpack(archive: Path, target: Path, dataset: KnownDataset) -> Path:
    """Unpack an archive whose SHA-256 was compared, and return its folder of class folders."""
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [name for name in packed.namelist() if "__MACOSX" not in name.split("/")]
            packed.extractall(target, names)
    # NotImplementedError is zipfile's word for a compression it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive}: the archive is damaged: {error}") from error
    source = target / dataset.archive_folder
    n_photos = _count_photos(source)
    if n_photos != dataset.n_photos:
        found = f"{n_photos} photos under {dataset.archive_folder}/"
        raise DataError(f"{archive}: holds {found}, expected {dataset.n_photos}")
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
