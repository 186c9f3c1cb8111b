"""Transcripts ↔ token ids: one token per character, 0 is CTC's blank.

The alphabet is that of train's transcripts; a dataset with tokens has it, and a model. Nothing is
looked up in the held-out ones: a character that only they have is left out of what is to be
recognised, and counted.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.errors import UsageError

BLANK = 0
UNMARKED = ("LATIN ", "GREEK ", "DIGIT ")  # how the names of characters that lose marks begin
# Joiners, and selectors of how a character looks: they stand within words and are no letters.
UNHEARD = re.compile("[\u034f\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def normalise(transcript: str) -> str:
    """A transcript as it is spoken: lower case letters, apostrophes within words, single spaces.

    Latin and Greek letters lose their accents, for a model can't learn the few words that have
    them; in other scripts marks are vowels, or make another letter, and stay. Punctuation and
    quotation marks become spaces, for nobody hears them. A dash parts words, and so does any other
    sign. Digits and letters of other scripts are kept.

    >>> normalise('“Well-to-do,” said Raphaël’s owner: "Good!"')
    "well to do said raphael's owner good"
    >>> normalise("Ёлка – हिन्दी")
    'ёлка हिन्दी'
    """
    plain = UNHEARD.sub("", transcript.replace("\u2019", "'"))
    for _ in range(2):  # what came apart may be upper case, and what is lower case come apart
        plain = unicodedata.normalize("NFKD", plain).lower()
    words = "".join(_spoken(plain)).split()
    spoken = " ".join(filter(None, (word.strip("'") for word in words)))
    return unicodedata.normalize("NFC", spoken)


def _spoken(decomposed: str) -> Iterator[str]:
    """The letters, digits and apostrophes with the marks that stay; a space for other signs."""
    base = ""
    for c in decomposed:
        if c.isalnum() or c == "'":
            base = c
            yield c
        elif not unicodedata.category(c).startswith("M"):
            base = c
            yield " "
        elif base.isalnum() and not unicodedata.name(base, "").startswith(UNMARKED):
            yield c


@dataclass(frozen=True)
class Alphabet:
    """The characters of a model in order; token i + 1 is ``characters[i]``.

    Raises:
        UsageError: no characters, one of them twice, or a text that is none.
    """

    characters: str

    def __post_init__(self) -> None:
        twice = [c for c, n in Counter(self.characters).items() if n > 1]
        if not self.characters or twice:
            raise UsageError(
                f"an alphabet of {self.characters!r}: expected different characters, at least one"
            )

    def __len__(self) -> int:
        """Tokens, the blank among them."""
        return len(self.characters) + 1

    def encode(self, transcript: str) -> list[int]:
        """The tokens of a transcript once it is normalised; unknown characters are left out."""
        tokens = (self.characters.find(c) + 1 for c in normalise(transcript))
        return [token for token in tokens if token != BLANK]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens other than the blank."""
        return "".join(self.characters[token - 1] for token in tokens)

    def unknown(self, transcripts: Iterable[str]) -> Counter[str]:
        """How often characters that have no token occur in transcripts."""
        seen = Counter(c for text in transcripts for c in normalise(text))
        return Counter({c: n for c, n in seen.items() if c not in self.characters})


def alphabet_of(transcripts: Iterable[str]) -> Alphabet:
    """The characters of train's transcripts in the order of their code points.

    Raises:
        UsageError: there are none.
    """
    return Alphabet("".join(sorted({c for text in transcripts for c in normalise(text)})))
