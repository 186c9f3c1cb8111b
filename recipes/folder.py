"""Your own recordings in a folder, or in a tar of it: one class per sub-folder.

``<class>/…/<clip>``, or ``<split>/<class>/…/<clip>`` with splits called train, validation (valid,
val, dev) and test; one folder around all of that is passed through, as tars have it. A file is a
recording by its ending; others are left out, and counted.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.audio import Audio, load_audio
from pipeline.errors import RecipeError, UsageError, to_mend
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example
from pipeline.splits import share_out, split_named

LOG = logging.getLogger("pipeline.recipes")
# What can't be decoded is a recording all the same: it is named as a bad clip, not left out.
DECODED = "wav flac ogg oga opus mp3 aif aiff aifc au snd caf w64 rf64"
OTHERS = "aac ac3 amr ape m4a mp4 webm wma wv 3gp"
ENDINGS = tuple(f".{ending}" for ending in f"{DECODED} {OTHERS}".split())
WAYS = ("auto", "folders", "hash")


def files(given: Path, found: Sequence[str], splits: str, **params: object) -> list[str]:
    """The recordings of a folder, each in a class, no class empty; of a tar, none by itself."""
    clips = _recordings(found)
    if not found:
        return []
    root, by_folder = _layout(clips, splits)
    depth = root.count("/") + by_folder + 1
    full = {"/".join(clip.split("/")[:depth]) + "/" for clip in clips}
    mistakes = [
        f"{name}: a class without recordings; fill the folder or remove it"
        for name in found
        if name.endswith("/") and name.count("/") == depth and name not in full
    ]
    mistakes += [
        f"{clip}: a recording in no class folder" for clip in clips if clip.count("/") < depth
    ]
    if mistakes or not clips:
        raise RecipeError(to_mend(given, mistakes or ["holds no recordings in folders"]))
    others = Counter(Path(n).suffix or n for n in set(found).difference(clips) if n[-1] != "/")
    if others:
        kinds = ", ".join(f"{ending} {count:,}" for ending, count in others.most_common(5))
        LOG.info("%s: left out, for they are no recordings: %s", given, kinds)
    return clips


def examples(
    corpus: Corpus, splits: str, shares: Sequence[int], seed: int, speaker_before: str
) -> Iterator[Example]:
    """Every recording; without split folders, its speaker (or itself) is hashed to its split."""
    clips = _recordings(corpus.members("data"))
    if not clips:
        raise RecipeError(
            "no recordings in it: expected a folder, or a tar of one, with a folder per class; "
            "a table is prepared by shardwell prepare table"
        )
    root, by_folder = _layout(clips, splits)
    labels = {clip: _labels(clip, root, by_folder, speaker_before) for clip in clips}
    LOG.info("classes are the folders in %s", f"{root or './'}{'<split>/' * by_folder}")
    if by_folder:
        split_of = {clip: str(split_named(clip.removeprefix(root).split("/")[0])) for clip in clips}
    else:
        LOG.info("splits are made by a hash: shares %s, seed %d", "+".join(map(str, shares)), seed)
        groups = {clip: labels[clip].get("speaker", clip.removeprefix(root)) for clip in clips}
        found = share_out(groups.values(), shares, seed)
        split_of = {clip: found[group] for clip, group in groups.items()}
    for clip in clips:
        ref = corpus.ref("data", clip)
        yield Example(clip.removeprefix(root), split_of[clip], (ref,), labels[clip])


def _recordings(names: Iterable[str]) -> list[str]:
    """The names of recordings among those of files, hidden ones left out."""
    hidden = (".", "__MACOSX")  # the second is what macOS adds to archives
    return [
        name
        for name in names
        if name.lower().endswith(ENDINGS)
        and not any(part.startswith(hidden) for part in name.split("/"))
    ]


def _layout(clips: Sequence[str], splits: str) -> tuple[str, bool]:
    """The folder (with a ``/``, or nothing) that all lies in, and whether splits come next."""
    if splits not in WAYS:
        raise UsageError(f"splits={splits}: expected one of {', '.join(WAYS)}")
    tops = {clip.split("/")[0] for clip in clips}
    around = len(tops) == 1 and all(clip.count("/") >= 2 for clip in clips)
    root = f"{tops.pop()}/" if around else ""
    tops = {clip.removeprefix(root).split("/")[0] for clip in clips}
    deep = all(clip.removeprefix(root).count("/") >= 2 for clip in clips)
    by_folder = deep and len(tops) > 1 and all(split_named(top) for top in tops)
    if splits == "folders" and not by_folder:
        raise RecipeError(
            f"splits=folders: expected folders train, validation, test and classes in them, got "
            f"{', '.join(sorted(tops)[:10])}"
        )
    return root, by_folder and splits != "hash"


def _labels(clip: str, root: str, by_folder: bool, speaker_before: str) -> dict[str, str]:
    path = clip.removeprefix(root).split("/", by_folder)[-1]
    label, inside, name = path.partition("/")
    if not inside:
        raise RecipeError(f"{clip}: a recording in no class folder")
    if not speaker_before:
        return {"label": label}
    speaker, found, _ = name.partition(speaker_before)
    if not found or not speaker:
        raise RecipeError(
            f"{clip}: expected a speaker, then {speaker_before!r}, behind its class folder; "
            "change --params speaker_before=…"
        )
    return {"label": label, "speaker": speaker}


def fitted(recipe: Recipe, corpus: Corpus, speaker_before: str, **params: object) -> Recipe:
    """With a label ``speaker`` where names tell it."""
    told = {"speaker": "text"} if speaker_before else {}
    return replace(recipe, labels={**recipe.labels, **told})


RECIPE = Recipe(
    name="folder",
    version=1,
    labels={"label": "class"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=16000),
    hints={"target": "label", "model": "bcresnet"},
    files=files,
    fitted=fitted,
    foreign=True,
)
