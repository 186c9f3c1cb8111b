"""The text of a language model: transcripts without any of those that are held out.

A clip is left out by its name, and also where another clip says the very same.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.characters import normalise
from pipeline.errors import ModelError, UsageError

LONGEST_LINE = 1 << 16  # characters


def read_transcripts(path: Path) -> dict[str, str]:
    """Clip → transcript of a file with the lines ``name|…|transcript``, UTF-8, without quoting.

    Raises:
        ModelError: no such file or none of this kind, or a clip is in it twice.
    """
    transcripts: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                name, *others = line.rstrip("\r\n").split("|")
                if not name or not others or len(line) > LONGEST_LINE:
                    raise ModelError(
                        f"{path} line {number}: expected name|transcript, got {line[:60]!r}"
                    )
                if name in transcripts:
                    raise ModelError(f"{path} line {number}: expected no clip twice, got {name}")
                transcripts[name] = others[-1]
    except (OSError, UnicodeDecodeError) as error:
        reason = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ModelError(f"{path}: expected transcripts: {reason}") from None
    return transcripts


def permitted(transcripts: Mapping[str, str], held_out: Mapping[str, str]) -> list[str]:
    """The normalised transcripts that a language model may see, empty ones left out.

    Args:
        transcripts: clip → transcript.
        held_out: of validation and test; each must be among ``transcripts``, else the names are
            others, and nobody could tell which to leave out.

    Raises:
        UsageError: a held-out clip is not among the transcripts, or nothing is left.
    """
    missing = sorted(held_out.keys() - transcripts.keys())
    if missing:
        raise UsageError(
            f"the language model's text does not name {missing[0]}, which is held out "
            f"({len(missing)} of {len(held_out)} are missing): expected transcripts by the same "
            "names, so that these can be left out"
        )
    said = {normalise(text) for text in held_out.values()}
    said |= {normalise(transcripts[name]) for name in held_out}
    kept = [normalise(t) for name, t in transcripts.items() if name not in held_out]
    left = [text for text in kept if text and text not in said]
    if not left:
        raise UsageError("the language model's text: nothing is left without held-out clips")
    return left
