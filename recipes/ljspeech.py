"""LJSpeech: one voice reading non-fiction, 13,100 clips of 1 to 10 s at 22,050 Hz.

``metadata.csv`` holds ``id|text|normalized text`` in UTF-8, without header or quoting: a ``"`` is
itself. Members lie under ``LJSpeech-1.1/``, the clips as ``wavs/<id>.wav``. The label ``tokens`` is
the normalised text as the ids of its characters.
"""

from collections.abc import Iterator

from pipeline.audio import Audio, load_audio
from pipeline.errors import RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example

ROOT = "LJSpeech-1.1"


def examples(corpus: Corpus, validation: int, test: int) -> Iterator[Example]:
    """Ids sorted; the last ``validation + test`` are held out, validation before test."""
    rows = sorted(_metadata(corpus.read_text("archive", f"{ROOT}/metadata.csv")))
    n_train = len(rows) - validation - test
    if min(validation, test) < 0 or n_train < 1:
        raise RecipeError(
            f"ljspeech: of {len(rows)} clips {validation} + {test} can't be held out; "
            "set smaller sizes in the manifest's protocol"
        )
    for i, (name, text, normalized) in enumerate(rows):
        held_out = "validation" if i < n_train + validation else "test"
        yield Example(
            key=name,
            split="train" if i < n_train else held_out,
            refs=(corpus.ref("archive", f"{ROOT}/wavs/{name}.wav"),),
            labels={"text": text, "normalized_text": normalized, "tokens": normalized},
        )


def _metadata(text: str) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.replace("\r\n", "\n").rstrip("\n").split("\n"), 1):
        fields = line.split("|")
        if len(fields) != 3:
            raise RecipeError(
                f"metadata.csv line {number}: expected id|text|normalized text, "
                f"got {len(fields)} fields"
            )
        yield fields[0], fields[1], fields[2]


RECIPE = Recipe(
    name="ljspeech",
    version=2,
    labels={"text": "text", "normalized_text": "text", "tokens": "characters"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=22050),
    hints={"target": "normalized_text", "model": "dnn_ctc"},
)
