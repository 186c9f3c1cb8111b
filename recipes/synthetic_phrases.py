"""Short synthetic phrases in the layout of LJSpeech 1.1: for speech to text, offline, in minutes.

espeak-ng says phrases like those of the GRID corpus ("Bin blue at F two now.") in one voice, by
``write_phrases`` of ``synthetic_commands.py``; ``ljspeech.py`` reads them as the real ones.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline.audio import Audio, load_audio
from pipeline.recipe import Corpus, Recipe, load_recipe
from pipeline.records import Example

HERE = Path(__file__).parent
WRITER = load_recipe(HERE / "synthetic_commands.py").generators["phrases"]
LJSPEECH = load_recipe(HERE / "ljspeech.py")


def examples(
    corpus: Corpus, clips: int, validation: int, test: int, seed: int
) -> Iterator[Example]:
    """Ids sorted; the last ``validation + test`` of all ``clips`` are held out."""
    return LJSPEECH.examples(corpus, validation, test)


RECIPE = Recipe(
    name="synthetic_phrases",
    version=1,
    labels=LJSPEECH.labels,
    features=LJSPEECH.features,
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=22050),
    generators={"phrases": WRITER},
    hints={"target": "normalized_text", "model": "crnn_ctc"},
)
