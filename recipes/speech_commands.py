"""Google Speech Commands: one spoken word per clip, at most 1 s at 16 kHz.

Members: ``<word>/<speaker>_nohash_<n>.wav`` (the speaker is 8 hex digits), the noise recordings
``_background_noise_/*.wav``, and the official lists of validation and test clips; a clip on
neither list is for training (Warden, arXiv:1804.03209, section 5).
"""

from collections.abc import Iterator, Sequence

from pipeline.audio import Audio, load_audio
from pipeline.errors import RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


def examples(corpus: Corpus, words: Sequence[str]) -> Iterator[Example]:
    """Every clip of the ``words`` (empty: of all), in the split the official lists give it."""
    held_out = {
        member: split
        for split, name in LISTS.items()
        for member in corpus.read_text("main", name).split()
    }
    missing = set(words)
    for member in corpus.members("main"):
        word, _, clip = member.rpartition("/")
        if not clip.endswith(".wav") or not word or word.startswith("_"):
            continue
        if words and word not in words:
            continue
        missing.discard(word)
        yield Example(
            key=member.removesuffix(".wav"),
            split=held_out.get(member, "train"),
            refs=(corpus.ref("main", member),),
            labels={"word": word, "speaker": clip.partition("_nohash_")[0]},
        )
    if missing:
        raise RecipeError(f"speech_commands: no clip of the words {', '.join(sorted(missing))}")


RECIPE = Recipe(
    name="speech_commands",
    version=1,
    labels={"word": "class", "speaker": "text"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=16000, duration=1.0),
    hints={"target": "word", "model": "bcresnet"},
)
