"""Datasets to report on: clips of noise with nothing wrong, and clips whose names are code."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.features import Waveform
from tests.sealed import Made, write_made

RATE = 8000
HOSTILE = (
    "<script>document.hacked=1</script>",
    "</script><script>document.hacked=1</script>",
    '"><img src=x onerror="document.hacked=1">',
    "' onmouseover='document.hacked=1",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp;",
    "<!--<script>",
    "\u202egnp.exe\u2028 $x_1$",
)


def voice(seed: int, n: int = RATE, level: float = 0.1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32) * np.float32(level)


def words(tmp_path: Path, name: str = "words", **changes: Any) -> Path:
    """Twelve clips of two words by four speakers in three splits; nothing is wrong with them."""
    rows = [
        (f"clip-{i}", {"word": i % 2, "speaker": f"s{i % 4 if i < 8 else i}"}, voice(i))
        for i in range(12)
    ]
    made = {
        "feature": Waveform(RATE, "float32"),
        "labels": {"word": "class", "speaker": "text"},
        "splits": {"train": rows[:8], "validation": rows[8:10], "test": rows[10:]},
        "classes": {"word": ["no", "yes"]},
        "hints": {"target": "word"},
    }
    return write_made(tmp_path / name, Made(**(made | changes)))


def hostile(tmp_path: Path) -> Path:
    rows = [
        (f"{text}/{i}.wav", {"word": i, "speaker": text, "text": text}, voice(i % 3))
        for i, text in enumerate(HOSTILE)
    ]
    finding = {"key": HOSTILE[0], "split": "train", "source": "x", "offset": 0, "size": 1}
    return words(
        tmp_path,
        labels={"word": "class", "speaker": "text", "text": "text"},
        splits={"train": rows, "test": rows[:2]},
        classes={"word": list(HOSTILE)},
        findings=[finding | {"reason": f"silent: {HOSTILE[1]}", "left_out": False}],
        corpus={"title": HOSTILE[0], "licence": HOSTILE[2], "homepage": "javascript:alert(1)"},
    )
