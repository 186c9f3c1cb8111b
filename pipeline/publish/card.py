"""README.md: the page that explains a published dataset, written from its ``dataset.json``."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from pipeline.dataset import Sealed, stored_as, target_of
from pipeline.features import Pixels, Tokens, Vector
from pipeline.publish.config import ENDINGS, Config
from pipeline.publish.features import column_of, hf_features
from pipeline.publish.snippets import snippets
from pipeline.publish.summary import Summary, summary
from pipeline.publish.webdataset import tar_features

FEATURES = {"parquet": hf_features, "webdataset": tar_features}
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LICENCES = {  # the Hub's own names, by those that manifests begin with
    "cc0-1.0": "cc0-1.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-3.0": "cc-by-sa-3.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "mit": "mit",
    "apache-2.0": "apache-2.0",
    "unclear": "unknown",
    "unknown": "unknown",
}
SHOWN, CLASSES = 20, 200  # findings and classes that are listed


def card(repository: str, configs: Sequence[Config], form: str) -> str:
    """The page's text: YAML for the Hub, then a body for people."""
    parts = [
        f"---\n{_yaml(configs, form)}\n---\n",
        _about(configs),
        *snippets(repository, configs, form),
    ]
    for config in configs:
        parts += _config(config, len(configs) > 1)
    return "\n".join([*parts, *_origin(configs[0].sealed)])


def _yaml(configs: Sequence[Config], form: str) -> str:
    """What the Hub and ``load_dataset`` read."""
    from huggingface_hub import DatasetCardData

    corpus = configs[0].sealed.info["corpus"]
    data = DatasetCardData(
        language=corpus.get("languages") or None,
        pretty_name=corpus.get("title"),
        task_categories=_tasks(configs) or None,
        size_categories=_size(configs),
        tags=_tags(configs),
        **_licence(corpus),
        configs=[_files(config, form, config is configs[0]) for config in configs],
        dataset_info=[_info(config, form) for config in configs],
    )
    text: str = data.to_yaml()
    return text.strip()


def _licence(corpus: Any) -> dict[str, Any]:
    """The Hub's name for a licence, or one made of the manifest's words."""
    name = "-".join(re.findall(r"[a-z0-9.]+", corpus.get("licence", "unknown").lower()))
    for known, theirs in LICENCES.items():
        if f"{name}-".startswith(f"{known}-"):
            return {"license": theirs}
    link = {"license_link": corpus["homepage"]} if corpus.get("homepage") else {}
    return {"license": "other", "license_name": name, **link}


def _tasks(configs: Sequence[Config]) -> list[str]:
    found = set()
    for config in configs:
        sealed = config.sealed
        if isinstance(sealed.feature, Tokens):
            continue
        audio = not isinstance(sealed.feature, Pixels | Vector)
        if target_of(sealed):
            found.add("audio-classification" if audio else "image-classification")
        elif audio and "text" in sealed.columns.labels.values():
            found |= {"automatic-speech-recognition", "text-to-speech"}
    return sorted(found)


def _size(configs: Sequence[Config]) -> str:
    rows = max(sum(info.rows for info in config.shards) for config in configs)
    return next((name for most, name in SIZES if rows < most), "n>10M")


def _tags(configs: Sequence[Config]) -> list[str]:
    modality = {
        "audio": "audio",
        "features": "audio",
        "image": "image",
        "tokens": "tabular",
        "vector": "image",
    }
    kinds = {config.sealed.feature.kind for config in configs}
    return [*sorted(kinds | {modality[column_of(c.sealed)] for c in configs}), "shardwell"]


def _files(config: Config, form: str, default: bool) -> dict[str, Any]:
    ending = ENDINGS[form]
    paths = [{"split": s, "path": f"{config.name}/{s}-*.{ending}"} for s in config.splits]
    first = {"default": True} if default else {}
    return {"config_name": config.name, "data_files": paths, **first}


def _info(config: Config, form: str) -> dict[str, Any]:
    sealed = config.sealed
    features = FEATURES[form](sealed)
    splits = [
        {
            "name": split,
            "num_bytes": sum(info.bytes for info in sealed.splits[split]),
            "num_examples": sealed.rows(split),
        }
        for split in config.splits
    ]
    return {"config_name": config.name, "features": features._to_yaml_list(), "splits": splits}


def _about(configs: Sequence[Config]) -> str:
    corpus = configs[0].sealed.info["corpus"]
    rows = sum(info.rows for info in configs[0].shards)
    what = " and ".join(stored_as(config.sealed) for config in configs)
    title = corpus.get("title", configs[0].sealed.info["recipe"]["name"])
    return (
        f"# {title}\n\n{rows:,} examples as {what}, prepared by shardwell from verified sources. "
        "Below: how to load it, what it holds, how it was made.\n"
    )


def _config(config: Config, several: bool) -> list[str]:
    """What one config holds and how it was made."""
    sealed, found = config.sealed, summary(config)
    title = f"## What it holds{f': {config.name}' if several else ''}\n"
    picture = (
        "" if isinstance(sealed.feature, Tokens) else f"![examples]({config.name}/examples.png)\n"
    )
    rows = [
        (split, f"{sealed.rows(split):,}", str(len(sealed.splits[split])), found.lengths[split])
        for split in config.splits
    ]
    parts = [title, picture, _table(("split", "examples", "files", found.unit), rows)]
    parts += [
        _columns(sealed),
        _labels(found),
        _alphabets(sealed),
        _statistics(sealed),
        _made(sealed),
        _findings(sealed),
    ]
    return [part for part in parts if part]


def _columns(sealed: Sealed) -> str:
    kinds = [
        f"`{name}` ({f'one of {len(sealed.classes[name]):,} classes' if kind == 'class' else kind})"
        for name, kind in sealed.columns.labels.items()
    ]
    return f"Every example has {', '.join(['a `key`', *kinds])} and its `{column_of(sealed)}`.\n"


def _labels(found: Summary) -> str:
    parts = []
    for name, counts in found.classes.items():
        rows = [(cls, *(f"{n:,}" for n in numbers)) for cls, numbers in counts.items()]
        head = f"Label `{name}`, {len(rows):,} classes:\n\n"
        parts.append(head + _table(("class", *found.lengths), rows[:CLASSES]))
    return "\n".join(parts)


def _alphabets(sealed: Sealed) -> str:
    return "\n".join(
        f"Label `{name}`: the ids of characters; 1 is the first of `{alphabet.characters!r}`, "
        "0 is free for padding and CTC's blank.\n"
        for name, alphabet in sealed.alphabets.items()
    )


def _statistics(sealed: Sealed) -> str:
    mean, std = (sealed.info["statistics"][name] for name in ("mean", "std"))
    if mean is None or not len(mean):
        return ""
    step = sealed.feature.step
    rows = [
        (str(i), f"{m * step:.4f}", f"{s * step:.4f}")
        for i, (m, s) in enumerate(zip(mean, std, strict=True))
    ]
    table = _table(("bin", "mean", "standard deviation"), rows)
    title = "Mean and standard deviation of train, per bin"
    return f"<details><summary>{title}</summary>\n\n{table}\n</details>\n"


def _made(sealed: Sealed) -> str:
    """Recipe, rule of the splits, parameters, versions, sources: all that decides the bytes."""
    info = sealed.info
    recipe, protocol = info["recipe"], info["protocol"]
    params = ", ".join(f"`{k}={v}`" for k, v in protocol.get("params", {}).items()) or "none"
    rule = info["corpus"].get("protocol", "")
    lines = [
        f"### How `{sealed.feature.kind}` was made\n",
        f"- recipe `{recipe['name']}` version {recipe['version']}",
        f"- splits: protocol `{protocol['name']}`. {rule} Parameters: {params}",
        "- features: " + _values(info["features"]),
    ]
    if info.get("audio"):
        lines.append("- audio: " + _values(info["audio"]))
    lines.append("- versions: " + _values(info["versions"]))
    lines += [
        f"- source `{role}`: sha256 `{digest}`" for role, digest in info.get("sources", {}).items()
    ]
    return "\n".join(lines) + "\n"


def _findings(sealed: Sealed) -> str:
    findings = sealed.info["findings"]
    if not findings:
        return "No example was left out, and none was found odd.\n"
    bad = sum(bool(finding["left_out"]) for finding in findings)
    odd = len(findings) - bad
    rows = [
        (f["key"], f["split"], "left out" if f["left_out"] else "kept", f["reason"])
        for f in sorted(findings, key=lambda f: not f["left_out"])[:SHOWN]
    ]
    more = (
        f"\nAnd {len(findings) - SHOWN:,} more, in `dataset.json`.\n"
        if len(findings) > SHOWN
        else ""
    )
    head = f"Left out: {bad:,}. Kept, though something is odd about them: {odd:,}.\n\n"
    return head + _table(("key", "split", "", "reason"), rows) + more


def _origin(sealed: Sealed) -> list[str]:
    corpus = sealed.info["corpus"]
    homepage = f" (<{corpus['homepage']}>)" if corpus.get("homepage") else ""
    return [
        "## Licence and citation\n",
        f"The corpus: {corpus.get('licence', 'unknown')}{homepage}. "
        f"Passing it on: {corpus.get('redistribution', 'unknown')}.\n",
        f"> {corpus.get('citation', '')}\n",
    ]


def _values(values: Any) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in values.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; neither bars nor HTML in cells, class names say, are taken for more."""
    lines = [head, ["---"] * len(head), *rows]
    cells = (" | ".join(_cell(c) for c in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)


def _cell(text: str) -> str:
    return " ".join(escape(str(text), quote=False).replace("|", "\\|").split())
