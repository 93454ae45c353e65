"""What a job takes along from this machine: code and config in one zip file, and never data, runs or secrets."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What Ray's own packages are chosen by.
from ray._private.runtime_env.packaging import PathSpec  # type: ignore[attr-defined]

import ray_trash
from ray_trash.errors import ConfigError
from ray_trash.terminal.text import counted, listed

MOST_BYTES = 50 * 2**20
"""Of all files together. Code and config are some megabytes at most; Ray keeps a package in the memory of its head."""
MOST_FILES = 10_000
"""A folder with more is a home or a data set, and to look through all of it takes minutes."""
IGNORE_FILES = (".gitignore", ".rayignore")
"""Both hide files, as they do from Ray's own packages."""
CODE = "ray_trash"

_NOT_TAKEN: Mapping[str, tuple[str, ...]] = {
    "history, environments, caches": (
        *(".git/", ".hg/", ".svn/", ".venv/", "venv/", "node_modules/", "__pycache__/", "*.py[cod]", "*.egg-info/"),
        *(".cache/", ".*_cache/", ".ipynb_checkpoints/", ".DS_Store"),
    ),
    "secrets": (
        *(".env", ".env.*", ".ssh/", ".aws/", ".ray/", ".kube/", ".netrc", ".pypirc", ".npmrc", "credentials"),
        *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa", "id_ecdsa", "id_ed25519"),
        *("token", "*_token", "*.token", "*_token.txt", "key", "*_key", "*_key.txt", "secrets.*"),
    ),
    "photos, weights, tables of them": (
        *("*.jpg", "*.jpeg", "*.png", "*.webp", "*.bmp", "*.gif", "*.tif", "*.tiff", "*.avif", "*.heic", "*.heif"),
        *("*.safetensors", "*.pt", "*.pt2", "*.pth", "*.ckpt", "*.onnx", "*.parquet", "*.arrow", "*.npy", "*.npz"),
        *("*.zip", "*.tar", "*.tar.*", "*.tgz"),
    ),
}
"""By what it is, patterns of names as in .gitignore: those with a slash are of folders, the others of files."""
_MADE_OF: Mapping[str, tuple[str, ...]] = {
    "history, environments, caches": ("pyvenv.cfg", "conda-meta"),
    "runs": ("run.json", "trials.json"),
    "checkpoints": ("COMPLETE", "checkpoint.json"),
}
"""Folders known by what is in them, whatever their name."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the zip: the same files are the same package, which the cluster then has already."""


@dataclass(frozen=True)
class Package:
    """Files to be sent.

    Attributes:
        root: The folder they are of.
        files: Bytes of each by its path below the root of the job's own folder, and where it is on this machine.
        left_out: Paths below `root` that stay here, by what they are; a folder stands for all that is in it.
        against_ignore: Files that an ignore file hides and that are taken all the same, with the pattern that does.
    """

    root: Path
    files: Mapping[str, tuple[int, Path]]
    left_out: Mapping[str, Collection[str]]
    against_ignore: Mapping[str, str]

    @property
    def n_bytes(self) -> int:
        """What all files hold, before they are compressed."""
        return sum(size for size, _ in self.files.values())

    def summary(self) -> str:
        """Say what is sent and what stays here, in one line."""
        left = "; ".join(f"{listed(sorted(paths), 3)} ({what})" for what, paths in self.left_out.items())
        sent = f"{counted(len(self.files), 'file')}, {_mib(self.n_bytes)}, of {self.root}"
        return f"{sent}; left out: {left}" if left else sent

    def write(self, path: Path) -> None:
        """Write the zip file; of the same files it has the same bytes, whenever and wherever it is made.

        Raises:
            ConfigError: A file cannot be read.
        """
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, (_, source) in sorted(self.files.items()):
                try:
                    content = source.read_bytes()
                except OSError as error:
                    raise ConfigError(
                        f"{source}: cannot be read, and would be sent: {error.strerror}; name it in .rayignore"
                    ) from error
                archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content, zipfile.ZIP_DEFLATED)


def choose_files(root: Path, *, needed: Collection[str] = (), data: Collection[str] = ()) -> Package:
    """Decide which files below a folder a job takes along, and add this program's code where the folder has none.

    Args:
        root: The folder that becomes the job's current one.
        needed: Files below it that the job's command names; they are taken whatever hides them.
        data: Folders below it that hold photos or runs, as the command says.

    Raises:
        ConfigError: They are more than `MOST_FILES`, or larger than `MOST_BYTES`; where most of them are is named.
    """
    chosen = _Choice(root, frozenset(data))
    chosen.walk("", [])
    hidden: dict[str, str] = {}
    for name in needed:
        if name not in chosen.files and (root / name).is_file():
            hidden[name] = _what_hides(root, name) or "a rule that keeps data and secrets here"
            chosen.take(name)
    if f"{CODE}/__main__.py" not in chosen.files:
        chosen.take_code()
    package = Package(root, chosen.files, chosen.left_out, hidden)
    if package.n_bytes > MOST_BYTES:
        raise ConfigError(
            f"{root}: {_mib(package.n_bytes)} would be sent, at most {_mib(MOST_BYTES)} are; the largest: "
            f"{_largest(package)}; {_ADVICE}"
        )
    return package


_ADVICE = "name what is not code in .rayignore, or another folder with --working-dir"


class _Ignored:
    """The patterns of one ignore file, which hold for what is below its folder."""

    def __init__(self, folder: str, lines: list[str]) -> None:
        self._folder = folder
        self._lines = lines
        self._patterns = PathSpec.from_lines("gitwildmatch", lines)

    def hides(self, path: str) -> bool:
        """Say whether a path below the root is hidden; that of a folder ends with a slash."""
        return bool(self._patterns.match_file(path.removeprefix(self._folder)))

    def pattern(self, path: str) -> str:
        """Return the pattern that hides a path."""
        below = path.removeprefix(self._folder)
        hiding = (line for line in self._lines if PathSpec.from_lines("gitwildmatch", [line]).match_file(below))
        return next(hiding, "").strip()


class _Choice:
    def __init__(self, root: Path, data: frozenset[str]) -> None:
        self.files: dict[str, tuple[int, Path]] = {}
        self.left_out: dict[str, list[str]] = {}
        self._root = root
        self._data = data
        self._folder_rules, self._file_rules = (
            {
                what: PathSpec.from_lines("gitwildmatch", [line for line in lines if line.endswith("/") == of_folders])
                for what, lines in _NOT_TAKEN.items()
            }
            for of_folders in (True, False)
        )

    def walk(self, folder: str, above: list[_Ignored]) -> None:
        """Look at a folder below the root, its path empty or with a slash at its end."""
        ignored = [*above, *_ignore_files(self._root, folder)]
        for name, entry in sorted(_entries(self._root / folder)):
            path = f"{folder}{name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if reason := self._why_not(path, entry, ignored):
                self.left_out.setdefault(reason, []).append(path + "/" * is_folder)
            elif is_folder:
                self.walk(f"{path}/", ignored)
            else:
                self.take(path)

    def take(self, path: str) -> None:
        source = self._root / path
        self.files[path] = (source.stat().st_size, source)
        if len(self.files) > MOST_FILES:
            ((most, _),) = Counter(_top(path) for path in self.files).most_common(1)
            raise ConfigError(
                f"{self._root}: more than {MOST_FILES:,} files would be sent, most of them in {most}; {_ADVICE}"
            )

    def take_code(self) -> None:
        """Add the program as it runs here."""
        code = Path(ray_trash.__file__).parent
        for source in sorted(code.rglob("*")):
            if source.is_file() and source.suffix != ".pyc":
                self.files[f"{CODE}/{source.relative_to(code).as_posix()}"] = (source.stat().st_size, source)

    def _why_not(self, path: str, entry: os.DirEntry[str], ignored: list[_Ignored]) -> str:
        is_folder = entry.is_dir(follow_symlinks=False)
        with_slash = path + "/" * is_folder
        for what, patterns in (self._folder_rules if is_folder else self._file_rules).items():
            if patterns.match_file(entry.name + "/" * is_folder):
                return what
        if path in self._data:
            return "data and runs"
        if is_folder:
            inside = set(os.listdir(entry)) if os.access(entry, os.R_OK | os.X_OK) else set()
            for what, names in _MADE_OF.items():
                if inside.intersection(names):
                    return what
        elif entry.is_symlink() and entry.is_dir():
            return "links to folders"
        elif not entry.is_file():
            return "links to nothing, pipes, sockets"
        elif _is_private_key(self._root / path):
            return "secrets"
        return "hidden by ignore files" if any(rules.hides(with_slash) for rules in ignored) else ""


def _entries(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            yield from [(entry.name, entry) for entry in entries]
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be listed: {error.strerror}; name it in .rayignore") from error


def _ignore_files(root: Path, folder: str) -> list[_Ignored]:
    files = [root / folder / name for name in IGNORE_FILES]
    return [_Ignored(folder, file.read_text(errors="replace").splitlines()) for file in files if file.is_file()]


def _what_hides(root: Path, path: str) -> str:
    """Name the ignore file and its pattern that hide a path, if one does."""
    parents = [""] + [f"{parent.as_posix()}/" for parent in reversed(Path(path).parents[:-1])]
    for folder in parents:
        for name in IGNORE_FILES:
            file = root / folder / name
            if not file.is_file():
                continue
            rules = _Ignored(folder, file.read_text(errors="replace").splitlines())
            # A folder that is hidden hides what is in it.
            for hidden in [*(parent for parent in parents if parent and parent.startswith(folder)), path]:
                if rules.hides(hidden):
                    return f"`{rules.pattern(hidden)}` in {folder}{name}"
    return ""


def _is_private_key(path: Path) -> bool:
    # Under whatever name: a key in PEM, or that of a service account.
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    if start.startswith(b"-----BEGIN "):
        return b"PRIVATE KEY" in start.partition(b"\n")[0]
    return path.suffix == ".json" and b'"private_key"' in start


def _largest(package: Package) -> str:
    sizes: Counter[str] = Counter()
    for path, (size, _) in package.files.items():
        sizes[_top(path)] += size
    return ", ".join(f"{name} {_mib(size)}" for name, size in sizes.most_common(3))


def _top(path: str) -> str:
    head, slash, _ = path.partition("/")
    return head + slash


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"
