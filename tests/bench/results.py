"""What the reference trainer reaches: every system of README's table, on the real data it needs.

A table of Markdown, a row as soon as it is known. A run that was cut off goes on; a system whose
row is known is told again from ``runs/results``. All takes an hour to two of one core.
"""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch

from pipeline.cli import main
from pipeline.files import write_json
from pipeline.loader import Dataset, open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import Trained, settings_for, train
from pipeline.train.checkpoint import load
from pipeline.train.decoding import decode, language_model, sentences
from pipeline.train.evaluation import evaluate
from pipeline.train.fitting import rebuilt
from pipeline.train.folder import events
from pipeline.train.memory_study import OWN, PUBLISHED, study
from pipeline.train.predict import task_of
from pipeline.train.robustness import robustness
from tests.conftest import ROOT, real_data

RUNS, DATA = ROOT / "runs" / "results", ROOT / "data"
LENGTHS = range(5, 40, 5)
SPECTRA = "spectrogram:values=log,win_length=256,hop_length=256,n_fft=256"  # 63×129
SPEECH = "speech_commands_v0.01_subset.tar.gz"
LJSPEECH, TRANSCRIPTS = "LJSpeech-1.1_subset.tar.bz2", "ljspeech_metadata_full.csv"
IMAGES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "test-images": "t10k-images-idx3-ubyte.gz",
    "test-labels": "t10k-labels-idx1-ubyte.gz",
}


@dataclass(frozen=True)
class System:
    """A row of the table.

    Attributes:
        title, data: what the row says before its figures.
        corpora: keys of ``requests``.
        tell: a name in ``KINDS``: trains, and tells the figures.
        given: settings that are not the model's own.
    """

    title: str
    data: str
    corpora: tuple[str, ...]
    tell: str
    given: Mapping[str, Any] = field(default_factory=dict)


WORDS, CLIPS = "2,000 clips of Speech Commands, 30 words", "the same, from waveforms"
SYSTEMS = (
    System("Conv2d", "its ten words, spectrograms", ("ten",), "class", {"model": "conv2d"}),
    System("Conv2d", WORDS, ("words", "clips"), "speech", {"model": "conv2d"}),
    System("CNN-GRU", WORDS, ("words", "clips"), "speech", {"model": "crnn"}),
    System(
        "CNN-GRU that hears streams",
        CLIPS,
        ("clips", "clips"),
        "stream",
        {"model": "crnn", "options": {"bidirectional": False}},
    ),
    System(
        "CNN-GRU for text", "digit sums of length 35", ("len-35",), "class", {"model": "text_crnn"}
    ),
    System(
        "LSTM over rows, one epoch",
        "MNIST",
        ("images",),
        "epoch",
        {"model": "lstm", "eval_split": "test", "eval_examples": 2000, "eval_every": 50},
    ),
    System(
        "LSTM 2×96, six epochs",
        "MNIST, 5,000 of train held out",
        ("fewer images",),
        "class",
        {
            "model": "lstm",
            "options": {"hidden": 96, "layers": 2},
            "epochs": 6,
            "lr": 0.003,
            "schedule": "cosine",
        },
    ),
    System("Conv1d over frames", WORDS, ("words", "clips"), "speech", {"model": "conv1d"}),
    System(
        "MFCC + DNN + n-gram",
        "135 clips of LJSpeech",
        ("sentences",),
        "text",
        {"model": "dnn_ctc", "epochs": 40},
    ),
    System(
        "CNN-GRU with CTC + n-gram",
        "the same",
        ("sentences",),
        "text",
        {"model": "crnn_ctc", "epochs": 150},
    ),
    System(
        "CNN-GRU with CTC",
        "1,000 synthetic phrases of six words, one voice",
        ("phrases",),
        "said",
        {"model": "crnn_ctc", "epochs": 15},
    ),
    System("RNN, LSTM, GRU", "digit sums", tuple(f"len-{n}" for n in LENGTHS), "memory"),
    System(
        "BC-ResNet, 28,000 parameters",
        CLIPS,
        ("clips", "clips"),
        "speech",
        {"model": "bcresnet"},
    ),
)


def requests(real: Path) -> dict[str, dict[str, Any]]:
    """The datasets by the names that systems call them."""
    words = {
        "recipe": "speech_commands",
        "protocol": "v1-30",
        "manifest": ROOT / "tests" / "real" / "speech_commands.toml",
        "sources": {"v1": real / SPEECH},
    }
    images = {"recipe": "mnist", "sources": {n: real / "mnist" / f for n, f in IMAGES.items()}}
    sums = {f"len-{n}": {"recipe": "digit_sum", "protocol": f"len-{n}"} for n in LENGTHS}
    return sums | {
        "words": words,
        "ten": words | {"protocol": "v1-10", "features": SPECTRA},
        "clips": words | {"features": "waveform"},
        "phrases": {"recipe": "synthetic_phrases", "features": "log_mel"},
        "images": images | {"protocol": "standard"},
        "fewer images": images | {"protocol": "last-5000"},
        "sentences": {
            "recipe": "ljspeech",
            "manifest": ROOT / "tests" / "real" / "ljspeech.toml",
            "sources": {"archive": real / LJSPEECH},
        },
    }


def run() -> None:
    """Print the table of all systems."""
    torch.set_num_threads(1)  # as figures were taken; on models this small more are no faster
    for line in table(SYSTEMS, real_data(), DATA, RUNS):
        print(line, flush=True)


def table(systems: Sequence[System], real: Path, data: Path, runs: Path) -> Iterator[str]:
    """Lines of Markdown; a system whose data is not at hand gets a row that names the file."""
    yield "| system | data | result on test |"
    yield "|---|---|---|"
    known = requests(real)
    for system in systems:
        asked = [known[name] for name in dict.fromkeys(system.corpora)]
        files = [file for one in asked for file in one.get("sources", {}).values()]
        files += [real / TRANSCRIPTS] if system.tell == "text" else []
        missing = sorted({file.name for file in files if not file.is_file()})
        result = f"not run: {', '.join(missing)} missing from $SHARDWELL_REAL_DATA"
        if not missing:
            result = _result(system, [known[name] for name in system.corpora], real, data, runs)
        yield f"| {system.title} | {system.data} | {result} |"


def _result(
    system: System, asked: Sequence[Mapping[str, Any]], real: Path, data: Path, runs: Path
) -> str:
    """A system's figures: known ones, else those of a run that begins or goes on."""
    folders = [prepare_dataset(Request(**one, out=data, offline=True)).folder for one in asked]
    whole = [asdict(system), *(str(folder.relative_to(data)) for folder in folders)]
    digits = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:8]
    out = runs / f"{system.given.get('model', system.tell)}-{digits}"
    path = out / "result.json"
    if not path.exists():
        write_json(path, {"result": KINDS[system.tell](system, folders, out, real)})
    return str(json.loads(path.read_text())["result"])


def _trained(system: System, folder: Path, out: Path) -> tuple[Dataset, Trained]:
    data = open_dataset(folder, key=True)
    settings = settings_for(system.given, data.info["hints"])
    return data, train(folder, settings, out, bars=True)


def classes(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """Accuracy on test."""
    _, done = _trained(system, folders[0], out)
    assert done.test
    return f"accuracy {done.test.scores['accuracy']:.3f} (chance {done.test.chance:.3f})"


def one_epoch(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """Accuracy on 2,000 test images, the first as stored, along the epoch and at its end."""
    _trained(system, folders[0], out)
    told = [e["held_out"]["accuracy"] for e in events(out) if e["what"] == "evaluation"]
    return f"accuracy {told[-1]:.3f} on 2,000 test images ({told[0]:.3f} after 50 steps)"


def speech(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """Accuracy, also under noise, at other speeds, of speakers that train lacks."""
    result = classes(system, folders[:1], out, real)
    rows = {r.name: r.score for r in robustness(load(out), open_dataset(folders[1]), "test")}
    noise = [f"{score:.2f}" for name, score in rows.items() if name.startswith("noise")]
    speed = [f"{score:.2f}" for name, score in rows.items() if name.startswith("speed")]
    unseen = rows.get("speakers that train lacks", math.nan)
    return (
        f"{result}; unseen speakers {unseen:.3f}; noise at 20, 15, 10, 5, 0 dB "
        f"{' '.join(noise)}; speed 0.9, 0.95, 1.05, 1.1 {' '.join(speed)}"
    )


def streamed(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """The same, and how long a chunk of a tenth of a second takes."""
    result = speech(system, folders, out, real)
    clip, printed = out / "clip.wav", io.StringIO()
    samples = open_dataset(folders[1])["test"][0]["features"].numpy()
    soundfile.write(clip, samples, 16000, "PCM_16")
    with contextlib.redirect_stdout(printed):
        assert main(["predict", str(out), str(clip), "--stream", "--json"]) == 0
    (row,) = json.loads(printed.getvalue())
    return (
        f"{result}; a chunk of 100 ms takes {row['median_ms']:.1f} ms, "
        f"real-time factor {row['real_time_factor']:.3f}"
    )


def said(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """WER and CER on test, read greedily."""
    _, done = _trained(system, folders[0], out)
    assert done.test
    return f"WER {done.test.scores['wer']:.3f}, CER {done.test.scores['cer']:.3f}"


def transcribed(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """CER on train; on test WER read three ways, and how many characters are right."""
    data, _ = _trained(system, folders[0], out)
    saved = load(out)
    own, part = saved.description, data["train"]
    cpu = torch.device("cpu")
    seen = evaluate(rebuilt(saved), task_of(saved), part, own.target, own.names, cpu)
    language = language_model(sentences(data, own.target, real / TRANSCRIPTS))
    found = decode(saved, data, "test", language)
    return (
        f"train CER {seen.scores['cer']:.3f}; WER greedily {found.greedy.wer:.3f}, by beam "
        f"{found.beam.wer:.3f}, with the language model {found.fused.wer:.3f}; characters: "
        f"accuracy {found.fused.accuracy:.3f}, recall {found.fused.recall:.3f}, "
        f"F1 {found.fused.f1:.3f}"
    )


def remembered(system: System, folders: Sequence[Path], out: Path, real: Path) -> str:
    """Accuracy on the shortest and the longest sequences, as published and with own settings."""
    lengths = dict(zip((int(n.removeprefix("len-")) for n in system.corpora), folders, strict=True))
    told = {(o.name, o.length): o.test for o in study(lengths, out, PUBLISHED | OWN)}
    first, last = min(lengths), max(lengths)
    parts = [
        f"{name} {told[name, first]:.2f} and {told[name, last]:.2f}" for name in PUBLISHED | OWN
    ]
    return f"accuracy at lengths {first} and {last}: {', '.join(parts)}"


KINDS: dict[str, Callable[[System, Sequence[Path], Path, Path], str]] = {
    "class": classes,
    "epoch": one_epoch,
    "speech": speech,
    "stream": streamed,
    "said": said,
    "text": transcribed,
    "memory": remembered,
}
