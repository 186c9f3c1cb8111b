"""Google Speech Commands: one spoken word per clip, at most 1 s at 16 kHz.

Members: ``<word>/<speaker>_nohash_<n>.wav`` (the speaker is 8 hex digits), the noise recordings
``_background_noise_/*.wav``, and the official lists of validation and test clips; a clip on
neither list is for training (Warden, arXiv:1804.03209, section 5).

The 12-class protocols add a source in the role ``test``, the official test-set archive: folders of
ten words, ``_unknown_/<word>_<speaker>_nohash_<n>.wav`` and ``_silence_``. Train and validation are
made of the main archive by the rule of TensorFlow Datasets: docs/corpora.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.audio import Audio, decode, load_audio
from pipeline.errors import ClipError, RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example, Ref

NOISE = "_background_noise_/"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
UNKNOWN, SILENCE = "_unknown_", "_silence_"
HELD_OUT = f"{NOISE}running_tap.wav"  # validation's silence


def examples(corpus: Corpus, words: Sequence[str]) -> Iterator[Example]:
    """Every clip of the ``words`` (empty: of all), in the split the official lists give it.

    With a test-set archive that is all of test, other words are ``_unknown_``, and pieces of the
    noise recordings ``_silence_``.
    """
    twelve, missing = "test" in corpus.sources, set(words)
    for clip in _clips(corpus):
        word = str(clip.labels["word"])
        missing.discard(word)
        if twelve and clip.split == "test":
            continue
        if not words or word in words:
            yield clip
        elif twelve:
            yield replace(clip, labels={**clip.labels, "word": UNKNOWN})
    if missing:
        raise RecipeError(f"speech_commands: no clip of the words {', '.join(sorted(missing))}")
    if twelve:
        yield from _silence(corpus)
        yield from _test_set(corpus, words)


def _clips(corpus: Corpus) -> Iterator[Example]:
    """All spoken clips of the main archive."""
    held_out = {
        member: split
        for split, name in LISTS.items()
        for member in corpus.read_text("main", name).split()
    }
    for member in corpus.members("main"):
        word, _, clip = member.rpartition("/")
        if clip.endswith(".wav") and word and not word.startswith("_"):
            yield Example(
                key=member.removesuffix(".wav"),
                split=held_out.get(member, "train"),
                refs=(corpus.ref("main", member),),
                labels={"word": word, "speaker": clip.partition("_nohash_")[0]},
            )


def _silence(corpus: Corpus) -> Iterator[Example]:
    """A second of noise every half second: of one recording for validation, the others for train.

    A window that ends with its recording is none, as TensorFlow Datasets has it.
    """
    corpus.ref("main", HELD_OUT)  # without it validation would have no silence
    labels = {"word": SILENCE, "speaker": ""}
    for member, whole in _recordings(corpus):
        split = "validation" if member == HELD_OUT else "train"
        key = f"{SILENCE}/{member.removeprefix(NOISE).removesuffix('.wav')}"
        found = _length(corpus, whole)
        if found is None:
            yield Example(key, split, (whole,), labels)
            continue
        length, rate = found
        for start in range(0, length - rate, rate // 2):
            piece = replace(whole, start=start, stop=start + rate)
            yield Example(f"{key}-{start:07d}", split, (piece,), labels)


def _test_set(corpus: Corpus, words: Sequence[str]) -> Iterator[Example]:
    """All clips of the test-set archive, its folders as classes.

    Raises:
        RecipeError: other folders than twelve, or one without clips.
    """
    expected, found = {*words, UNKNOWN, SILENCE}, set()
    for member in corpus.members("test"):
        word, _, clip = member.rpartition("/")
        if not word or not clip.endswith(".wav"):
            continue
        found.add(word)
        name, spoken, _ = clip.partition("_nohash_")
        yield Example(
            key=f"{word}/{clip.partition('.wav')[0]}",  # some names end in .wav.wav
            split="test",
            refs=(corpus.ref("test", member),),
            labels={"word": word, "speaker": name.rpartition("_")[2] if spoken else ""},
        )
    if found != expected:
        lacking, foreign = sorted(expected - found), sorted(found - expected)
        raise RecipeError(
            f"{corpus.sources['test'].path}: expected clips of {len(expected)} classes, got "
            f"{len(found)} (missing: {', '.join(lacking) or 'none'}; foreign: "
            f"{', '.join(foreign[:5]) or 'none'}); is this the test-set archive of this version?"
        )


def noise(corpus: Corpus, seconds: float | None) -> Iterator[Example]:
    """The noise recordings, whole or one piece after another; a shorter last piece is left out.

    With a test-set archive the recording that is validation's silence is left out, too.
    """
    labels = {"word": None, "speaker": ""}
    for member, whole in _recordings(corpus):
        if member == HELD_OUT and "test" in corpus.sources:
            continue
        key, found = member.removesuffix(".wav"), _length(corpus, whole) if seconds else None
        if seconds is None or found is None:
            yield Example(key, "noise", (whole,), labels)
            continue
        length, rate = found
        size = round(seconds * rate)
        for i, start in enumerate(range(0, length - size + 1, size)):
            piece = replace(whole, start=start, stop=start + size)
            yield Example(f"{key}-{i:04d}", "noise", (piece,), labels)


def _recordings(corpus: Corpus) -> Iterator[tuple[str, Ref]]:
    for member in corpus.members("main"):
        if member.startswith(NOISE) and member.endswith(".wav"):
            yield member, corpus.ref("main", member)


def _length(corpus: Corpus, recording: Ref) -> tuple[int, int] | None:
    """Samples and rate; None for what can't be decoded: whoever builds it says what is wrong."""
    try:
        decoded = decode(corpus.read(recording))  # its size alone does not tell how many they are
    except ClipError:
        return None
    return len(decoded.samples), decoded.rate


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
