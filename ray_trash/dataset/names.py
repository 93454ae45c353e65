"""What the name of a file or folder says by itself: left by a system, a photo, or something else that lies beside."""

from __future__ import annotations

import posixpath
import unicodedata

_SYSTEM_NAMES = frozenset(
    {
        # macOS, Windows, Linux, Android
        *("__macosx", "icon\r", "network trash folder", "temporary items"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "found.000"),
        *("lost+found", "lost.dir", "__pycache__"),
        # Synology, QNAP, NetApp
        *("@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot"),
    }
)
"""Folders and files that operating systems and storage boxes leave behind, in lower case. Names that start with a dot
(`.DS_Store`, `._photo.jpg`, `.Trash-1000`, `.snapshot`) are of their kind."""
_FOLDER_OBJECT_SUFFIX = "_$folder$"
"""Of an empty object that stands for a folder. Source: Hadoop's file systems for S3."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""How photos are usually named. Only folders are judged by it: a file is a photo by its content."""

_OTHER_SUFFIXES = frozenset(
    {
        # what cameras, phones and photo programs put beside a photo
        *(".aae", ".xmp", ".thm", ".lrv", ".exif", ".icc", ".lrcat", ".db", ".identifier"),
        *(".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts", ".wmv", ".mpg", ".mp3", ".m4a", ".wav"),
        # texts, tables, annotations
        *(".txt", ".md", ".rst", ".rtf", ".pdf", ".doc", ".docx", ".odt", ".ppt", ".pptx", ".html", ".htm", ".url"),
        *(".csv", ".tsv", ".xls", ".xlsx", ".ods", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
        *(".log", ".dvc", ".md5", ".sha256", ".cache", ".names", ".data"),
        # archives, arrays, models, programs
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"),
        *(".parquet", ".pq", ".arrow", ".npy", ".npz", ".h5", ".pkl", ".sqlite", ".tfrecord"),
        *(".pt", ".pth", ".pt2", ".onnx", ".safetensors", ".bin"),
        *(".py", ".ipynb", ".sh", ".bat", ".js", ".css", ".exe"),
    }
)
"""Files that nobody takes for a photo, though they lie among photos."""


def is_system_name(name: str) -> bool:
    """Say whether a name is hidden, or one that systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES or name.endswith(_FOLDER_OBJECT_SUFFIX)


def looks_like_photo(name: str) -> bool:
    """Say whether a name is one that photos usually have."""
    return name.lower().endswith(PHOTO_SUFFIXES)


def is_other_kind(name: str) -> bool:
    """Say whether a name is one that no photo has."""
    return posixpath.splitext(name)[1].lower() in _OTHER_SUFFIXES


def nfc(name: str) -> str:
    """Return the one form of a class's name: macOS writes an accent as a letter of its own, other systems do not."""
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """Return what two names that look alike have in common: without case, blanks and what is not seen."""
    seen = (letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter)[0] not in "ZC")
    return "".join(seen).casefold()
