"""The card's snippets: how ``datasets``, shardwell and plain Arrow load what was published."""

from collections.abc import Iterator, Sequence

from pipeline.features import Waveform
from pipeline.publish.config import Config
from pipeline.publish.features import column_of
from pipeline.publish.webdataset import ending_of


def snippets(repository: str, configs: Sequence[Config], form: str) -> Iterator[str]:
    """The section that tells how to load the first config, and how to name the others."""
    yield "## Load it\n"
    config = configs[0]
    named = f', "{config.name}"' if len(configs) > 1 else ""
    load = f'from datasets import load_dataset\n\ndata = load_dataset("{repository}"{named})\n'
    rows = f'data["{config.splits[0]}"][0]["json"]' if form == "webdataset" else _rows(config)
    yield _code(load + rows)
    if "/" in repository:
        at = f":{config.name}" if len(configs) > 1 else ""
        yield (
            "At memory speed in PyTorch, after one download that is verified "
            "(`pip install shardwell`):\n"
        )
        yield _code(
            "from pipeline import make_loader, open_dataset\n\n"
            f'data = open_dataset("hf://datasets/{repository}{at}")\n'
            f'loader = make_loader(data["{config.splits[0]}"], batch_size=64, shuffle=True)'
        )
    if form == "webdataset":
        yield "Or from a copy of the files:\n"
        yield _code(_with_webdataset(config))
    else:
        shard = config.shards[0].shard if config.shards else "train-00000-of-00001"
        yield "Or with nothing but Arrow:\n"
        yield _code(_with_arrow(repository, f"{config.name}/{shard}.parquet"))
    if len(configs) > 1:
        yield f"Configs: {', '.join(f'`{c.name}`' for c in configs)}.\n"


def _with_arrow(repository: str, path: str) -> str:
    if "/" not in repository:
        return f'import pyarrow.parquet as pq\n\ntable = pq.read_table("{path}")'
    return (
        "import pyarrow.parquet as pq\nfrom huggingface_hub import hf_hub_download\n\n"
        f'file = hf_hub_download("{repository}", "{path}", repo_type="dataset")\n'
        "table = pq.read_table(file)"
    )


def _rows(config: Config) -> str:
    """How a row of it is used."""
    name, first = column_of(config.sealed), config.splits[0]
    if isinstance(config.sealed.feature, Waveform):
        return (
            "\n# With torchcodec a row decodes itself; without it:\nimport io\n\nimport soundfile\n"
            "from datasets import Audio\n\n"
            f'row = data.cast_column("{name}", Audio(decode=False))["{first}"][0]\n'
            f'samples, rate = soundfile.read(io.BytesIO(row["{name}"]["bytes"]))'
        )
    return f'rows = data.with_format("torch")["{first}"]\nrows[0]["{name}"]'


def _with_webdataset(config: Config) -> str:
    count = len(config.sealed.splits[config.splits[0]])
    last = f"{{00000..{count - 1:05d}}}" if count > 1 else "00000"
    handler = ""
    if isinstance(config.sealed.feature, Waveform):
        handler = (
            "import io\n\nimport soundfile\n\n"
            'samples = webdataset.handle_extension("flac wav", '
            "lambda b: soundfile.read(io.BytesIO(b))[0])\n"
        )
    how = {"flac": "samples", "wav": "samples", "png": '"l8"'}.get(ending_of(config.sealed), "")
    return (
        f"import webdataset\n{handler}\n"
        f'files = "{config.name}/{config.splits[0]}-{last}-of-{count:05d}.tar"\n'
        f"data = webdataset.WebDataset(files, shardshuffle=False).decode({how})\n"
        f'next(iter(data))["{ending_of(config.sealed)}"]'
    )


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"
