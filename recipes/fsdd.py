"""Free Spoken Digit Dataset: six speakers say every digit fifty times, trimmed, at 8 kHz.

Members: ``recordings/<digit>_<speaker>_<n>.wav``, in a folder of any name or none. The official
split goes by n: 0 to 4 are test, 5 to 49 are train.
"""

import re
from collections.abc import Iterator

from pipeline.audio import Audio, load_audio
from pipeline.errors import RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example

CLIP = re.compile(r"(?:.*/)?recordings/((\d)_([a-z]+)_(\d+))\.wav")


def examples(corpus: Corpus, test: int, validation: int) -> Iterator[Example]:
    """Of each digit and speaker the first ``test`` clips, then ``validation``; the rest is train.

    Raises:
        RecipeError: negative sizes, or an archive without such clips.
    """
    if min(test, validation) < 0:
        raise RecipeError(f"fsdd: test={test}, validation={validation}: expected 0 or more clips")
    found = False
    for member in corpus.members("archive"):
        clip = CLIP.fullmatch(member)
        if clip is None:
            continue
        found = True
        key, digit, speaker, number = clip.groups()
        held_out = "test" if int(number) < test else "validation"
        yield Example(
            key=key,
            split=held_out if int(number) < test + validation else "train",
            refs=(corpus.ref("archive", member),),
            labels={"digit": int(digit), "speaker": speaker},
        )
    if not found:
        raise RecipeError(
            f"{corpus.sources['archive'].path}: expected members "
            "recordings/<digit>_<speaker>_<n>.wav, got none; is this the archive that the "
            "manifest means?"
        )


RECIPE = Recipe(
    name="fsdd",
    version=1,
    labels={"digit": "class", "speaker": "text"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=16000),
    recorded=8000,
    hints={"target": "digit", "model": "crnn"},
)
