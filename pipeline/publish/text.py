"""Token sequences as lines of text: a file per split, an example per line, in the order of keys.

``4 7 0 3 0<TAB>11``: the tokens, a tab, the name of the target's class.
"""

import re
from pathlib import Path

from pipeline.dataset import Sealed, target_of
from pipeline.errors import UsageError
from pipeline.features import Tokens
from pipeline.files import written
from pipeline.rows import pieces
from pipeline.shard import read_shard

NAMES = {"validation": "eval"}


def write_text(folder: Path, sealed: Sealed, splits: tuple[str, ...]) -> list[Path]:
    """Write ``train.txt``, ``eval.txt`` and ``test.txt``; the files written.

    Raises:
        UsageError: the dataset holds no tokens, or no class to write behind them, or of some.
    """
    target = target_of(sealed)
    if not isinstance(sealed.feature, Tokens) or target is None:
        raise UsageError(
            f"{sealed.folder}: text is for tokens with a class, got {sealed.feature.kind}; "
            "export it as parquet or webdataset"
        )
    paths = []
    for split in splits:
        lines = dict(_lines(sealed, split, target))
        path = folder / f"{NAMES.get(split, split)}.txt"
        with written(path) as temporary:
            in_order = sorted(lines, key=_by_numbers)
            temporary.write_bytes(b"".join(lines[key] for key in in_order))
        paths.append(path)
    return paths


def _lines(sealed: Sealed, split: str, target: str) -> list[tuple[str, bytes]]:
    found = []
    for info in sealed.splits[split]:
        shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
        for rows in pieces(shard, sealed.columns):
            classes = rows.labels[target].to_pylist()
            columns = zip(rows.keys.to_pylist(), rows.features(), classes, strict=True)
            for key, tokens, number in columns:
                if number < 0:
                    raise UsageError(
                        f"{sealed.folder}: example {key} has no {target}, which text can't say; "
                        "export it as parquet or webdataset"
                    )
                line = " ".join(map(str, tokens.tolist()))
                found.append((key, f"{line}\t{sealed.classes[target][number]}\n".encode()))
    return found


def _by_numbers(key: str) -> list[tuple[int, str]]:
    """Keys in the order that people count in: 5 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]
