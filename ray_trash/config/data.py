"""The settings of a data set: which photos there are, which class each one is, and on which side of the split."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ray_trash.config.section import Needs, Section

_SPLIT_BY_HASH = Needs(
    "data.split=grouped or stratified", lambda config: config.data.split in ("auto", "grouped", "stratified")
)
_VAL_BY_HASH = Needs(
    "data.split=grouped, stratified or folders",
    lambda config: config.data.split in ("auto", "folders", "grouped", "stratified"),
)
_LOCAL = Needs("a local data.root", lambda config: "://" not in config.data.root.removeprefix("file://"))
_CACHE_DECIDED = Needs("data.cache=auto", lambda config: config.data.cache == "auto")

ClassName = Annotated[
    str, StringConstraints(min_length=1), AfterValidator(lambda name: unicodedata.normalize("NFC", name))
]
"""In the form in which names of folders are compared: macOS writes an accent as a letter of its own."""


class DataConfig(Section):
    """Which photos, and on which side of the split each one is."""

    root: str
    """Folder of class folders: a local path, or a URI of a filesystem pyarrow opens (`s3://`, `gs://`). Or what `pack`
    made of one, or Parquet files with a column of images and one of labels, as those of Hugging Face."""
    split: str = "auto"
    """`official` (list files beside the photos), `official-clean` (that, without training photos that have a twin on
    another side or two labels), `folders` (train, val and test above the class folders; what is missing of val comes
    from train as in `grouped`), `grouped` (by a hash of content, photos of the same shot together), `stratified` (by
    a hash of each photo's content), or a table with columns `path` and `split`. `auto`: what `labels`, a packed set or
    Parquet files say where they say sides, `official` where its lists are, `folders` where there are such, else
    `grouped`."""
    labels: str | None = None
    """A table that says which class a photo is, wherever it lies below `root`: CSV or Parquet, a local path or a URI,
    with columns `path` and `label`, or what other data sets call them, and perhaps `split`. Default: folders say it."""
    licence: str | None = None
    """Licence of the photos, in words or as an SPDX name, for the model card. Default: the card says that it is not
    known."""
    val_fraction: Annotated[float, _VAL_BY_HASH] = Field(0.15, ge=0, lt=1)
    """Share of every class that goes to validation, expected over the content hash."""
    test_fraction: Annotated[float, _SPLIT_BY_HASH] = Field(0.15, ge=0, lt=1)
    """Share of every class that is kept back for `evaluate`, expected over the content hash."""
    classes: tuple[ClassName, ...] | None = None
    """Class names in label order. Default: the sorted names of the class folders, or the labels of the table."""
    follow_links: Annotated[bool, _LOCAL] = True
    """Follow links to photos and folders, as DVC and git-annex make them; a photo has the class of the link's place.
    Without, links out of the root are refused, and links to folders are left out."""
    on_bad_image: Literal["quarantine", "fail"] = "quarantine"
    """Leave a bad photo out by name, or stop before the first epoch."""
    cache: Literal["auto", "memory", "stream"] = "auto"
    """Keep decoded photos in memory, decode them every epoch, or decide by size."""
    cache_budget_gib: Annotated[float | None, _CACHE_DECIDED] = Field(None, gt=0)
    """Decoded photos up to this size are kept in memory. Default: half of Ray's object store."""

    @model_validator(mode="after")
    def _fractions_leave_a_training_set(self) -> DataConfig:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction + test_fraction must be below 1: nothing is left to train on")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name is listed twice")
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError("classes: a classifier needs at least two")
        return self
