"""Any dataset on a Hub with a column of recordings, images or arrays: ``repo=user/name``.

Its Parquet files, or those that the Hub has made of it, are downloaded at one commit, read by
pyarrow alone, and packed into a tar of what the column holds (a file's bytes, or an array as .npy)
and ``rows.jsonl``, the rest of each row. Nothing of the dataset is executed.
"""

import io
import json
import logging
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio import Audio, condition, load_audio
from pipeline.errors import ClipError, RecipeError, SourceError, UsageError
from pipeline.hub_files import COMMIT, HubFile, brought, parquet_files, pinned
from pipeline.parquet_rows import read_rows
from pipeline.recipe import RESERVED, Corpus, Recipe
from pipeline.records import Example, Piece
from pipeline.splits import share_out, split_named

LOG = logging.getLogger("pipeline.recipes")
ROWS, NPY = "rows.jsonl", b"\x93NUMPY"
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # for PostScript, Pillow runs Ghostscript
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
Array = npt.NDArray[Any]


def settle(offline: bool, repo: str, revision: str, **params: Any) -> dict[str, Any]:
    """The parameters with the commit in the place of a branch or tag, which may move."""
    if not repo:
        raise UsageError("hub: name the dataset, as --params repo=user/name")
    if not COMMIT.fullmatch(revision):
        if offline:
            raise SourceError(
                f"{repo}: {revision} may have moved and --offline forbids to look; "
                "name the commit, as revision=<40 hex digits>"
            )
        revision = pinned(repo, revision)
    return {"repo": repo, "revision": revision, **params}


def pack(path: Path, repo: str, revision: str, config: str, column: str) -> None:
    """Write the tar of a dataset's rows."""
    files = _of_config(repo, parquet_files(repo, revision), config)
    folder = path.parent / f"{repo.replace('/', '--')}-{revision[:8]}"
    with (
        brought(repo, revision, files, folder) as here,
        tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar,
        tempfile.TemporaryFile(dir=path.parent) as rows,
    ):
        count = 0
        for file, local in zip(files, here, strict=True):
            for content, labels in read_rows(local, file.path, column):
                _add(tar, f"{count:08d}", io.BytesIO(content), len(content))
                row = {"path": file.path, "labels": labels}
                rows.write(json.dumps(row).encode() + b"\n")
                count += 1
        size = rows.tell()
        rows.seek(0)
        _add(tar, ROWS, rows, size)


def _add(tar: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)


def _of_config(repo: str, files: Sequence[HubFile], config: str) -> list[HubFile]:
    """The files of one config: a top folder that is no split's and not called ``data``."""
    tops = [file.path.partition("/")[0] if "/" in file.path else "data" for file in files]
    configs = sorted({top for top in tops if top != "data" and not _split_in(top)})
    if config and config not in configs:
        raise RecipeError(
            f"{repo}: no config {config}; it has {', '.join(configs) or 'none (leave config out)'}"
        )
    if len(configs) > 1 and not config:
        raise RecipeError(f"{repo}: holds {', '.join(configs)}; choose one, as config={configs[0]}")
    return [file for file, top in zip(files, tops, strict=True) if top == config or not config]


def _split_in(path: str) -> str | None:
    """The split that a path names, in its last part that does: ``data/train-00000-of-00002.…``."""
    for part in reversed(path.removesuffix(".parquet").split("/")):
        for word in re.split(r"[-_.]", part):
            if split := split_named(word):
                return split
    return None


def _rows(corpus: Corpus) -> list[dict[str, Any]]:
    return [json.loads(line) for line in corpus.read_text("rows", ROWS).split("\n") if line]


def _labels(row: dict[str, Any], key: str, leave: Sequence[str]) -> dict[str, list[Any]]:
    """Label → [kind, value] of a row; a column whose name can't be a label's is left out."""
    return {
        name: value
        for name, value in row["labels"].items()
        if name not in (key, *leave, *RESERVED) and name.isidentifier()
    }


def examples(
    corpus: Corpus,
    key: str,
    group: str,
    leave: Sequence[str],
    splits: str,
    shares: Sequence[int],
    seed: int,
    **packed: object,
) -> Iterator[Example]:
    """Every row, in the split that its file's name tells, or that its group's hash gives it."""
    if splits not in ("given", "hash"):
        raise UsageError(f"splits={splits}: expected given or hash")
    rows = _rows(corpus)
    columns = rows[0]["labels"] if rows else {}
    for column in filter(None, (key, group)):
        if column not in columns:
            raise RecipeError(f"no column {column}; there are {', '.join(columns)}")
    keys = [str(row["labels"][key][1]) if key else f"{i:08d}" for i, row in enumerate(rows)]
    if splits == "hash":
        groups = [str(row["labels"][group][1]) for row in rows] if group else keys
        found = share_out(groups, shares, seed)
        named = [found[name] for name in groups]
    else:
        named = [_split_of(row["path"]) for row in rows]
    for i, (row, name, split) in enumerate(zip(rows, keys, named, strict=True)):
        labels = {label: value for label, (_, value) in _labels(row, key, leave).items()}
        for label, value in labels.items():
            if value is None:
                raise RecipeError(f"row {i}: {label} is empty; leave it out with leave={label}")
        yield Example(name, split, (corpus.ref("rows", f"{i:08d}"),), labels)


def _split_of(path: str) -> str:
    split = _split_in(path)
    if split is None:
        raise RecipeError(f"{path}: its name tells no split; make them with splits=hash")
    return split


def fitted(
    recipe: Recipe, corpus: Corpus, key: str, leave: Sequence[str], **params: object
) -> Recipe:
    """With the labels of the first row."""
    rows = _rows(corpus)
    kinds = {n: kind for n, (kind, _) in _labels(rows[0], key, leave).items()} if rows else {}
    left = [n for n in (rows[0]["labels"] if rows else ()) if n not in (*kinds, *leave, key)]
    if left:
        LOG.info("columns that can't be labels by these names are left out: %s", ", ".join(left))
    target = next((name for name, kind in kinds.items() if kind == "class"), None)
    return replace(recipe, labels=kinds, hints={"target": target} if target else {})


def load(pieces: Sequence[Piece], audio: Audio | None) -> Array:
    """A recording → samples; an image → (height, width) grey uint8; an array as it is."""
    data = bytes(pieces[0].data)
    if not data:
        raise ClipError("its row holds no file, or no array of numbers")
    if data.startswith(NPY):
        return _array(_unpacked(data), audio)
    if audio is None:
        return _image(data)
    if data.startswith(IMAGES):
        raise ClipError("an image: prepare images with --features pixels:height=…,width=…")
    return load_audio(pieces, audio)


def _unpacked(data: bytes) -> Array:
    """The numbers in a .npy, which a file of anybody's may only pretend to be."""
    try:
        values: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's reader raises what its parsers raise
        raise ClipError(f"not readable as an array: {error}") from None
    if values.dtype.kind not in "biuf":
        raise ClipError(f"expected an array of numbers, got {values.dtype}")
    return values


def _array(values: Array, audio: Audio | None) -> Array:
    """Samples (whole numbers: of 16 bits) that have the rate of ``audio``; pixels; or tokens."""
    if audio is not None:
        if values.ndim != 1 or not values.size:
            raise ClipError(f"expected samples, got an array of {values.shape}")
        scale = 1 / 32768 if values.dtype.kind == "i" else 1
        return condition((values * scale).astype(np.float32), audio)
    if values.ndim == 2 and values.dtype.kind == "i":
        if values.min(initial=0) < 0 or values.max(initial=0) > 255:
            raise ClipError("expected pixels of 0 to 255")
        return values.astype(np.uint8)
    return values


def _image(data: bytes) -> Array:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ClipError(f"not readable as an image: {error}") from None


RECIPE = Recipe(
    name="hub",
    version=1,
    labels={},
    features=("mfcc", "log_mel", "spectrogram", "waveform", "pixels", "tokens"),
    examples=examples,
    load=load,
    audio=Audio(sample_rate=16000),
    generators={"pack": pack},
    settle=settle,
    fitted=fitted,
    foreign=True,
)
