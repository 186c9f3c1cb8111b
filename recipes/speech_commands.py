"""Google Speech Commands: one spoken word per clip, at most 1 s at 16 kHz.

Members: ``<word>/<speaker>_nohash_<n>.wav`` (the speaker is 8 hex digits), the noise recordings
``_background_noise_/*.wav``, and the official lists of validation and test clips; a clip on
neither list is for training (Warden, arXiv:1804.03209, section 5).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.audio import Audio, decode, load_audio
from pipeline.errors import ClipError, RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example, Ref

NOISE = "_background_noise_/"
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


def noise(corpus: Corpus, seconds: float | None) -> Iterator[Example]:
    """The noise recordings, whole or one piece after another; a shorter last piece is left out."""
    labels = {"word": None, "speaker": ""}
    for member in corpus.members("main"):
        if not (member.startswith(NOISE) and member.endswith(".wav")):
            continue
        key, whole = member.removesuffix(".wav"), corpus.ref("main", member)
        pieces = {key: whole} if seconds is None else _pieces(corpus, key, whole, seconds)
        for name, piece in pieces.items():
            yield Example(name, "noise", (piece,), labels)


def _pieces(corpus: Corpus, key: str, whole: Ref, seconds: float) -> dict[str, Ref]:
    try:
        recording = decode(corpus.read(whole))  # its size alone does not tell where samples begin
    except ClipError:
        return {key: whole}  # whoever builds it says what is wrong
    size = round(seconds * recording.rate)
    starts = range(0, len(recording.samples) - size + 1, size)
    return {
        f"{key}-{i:04d}": replace(whole, start=start, stop=start + size)
        for i, start in enumerate(starts)
    }


RECIPE = Recipe(
    name="speech_commands",
    version=1,
    labels={"word": "class", "speaker": "text"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=16000, duration=1.0),
    noise=noise,
    hints={"target": "word", "model": "bcresnet"},
)
