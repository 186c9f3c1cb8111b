"""``shardwell list``, ``info`` and ``features``: what there is."""

import argparse
import dataclasses
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text

if TYPE_CHECKING:
    from pipeline.manifest import Source


def add_list(commands: Any) -> None:
    """Declare ``shardwell list``."""
    parser = text.command(
        commands,
        "list",
        "list the corpora that can be prepared, and their protocols",
        "shardwell list",
        run_list,
    )
    text.add_json(parser)


def add_info(commands: Any) -> None:
    """Declare ``shardwell info``."""
    parser = text.command(
        commands,
        "info",
        "show a corpus's licence, citation, sources, protocols and splits",
        "shardwell info speech_commands",
        run_info,
    )
    parser.add_argument("name", metavar="NAME", help="a recipe's name, or the path of its .py file")
    parser.add_argument("--manifest", type=Path, metavar="PATH", help="your own manifest instead")
    text.add_json(parser)


def add_features(commands: Any) -> None:
    """Declare ``shardwell features``."""
    parser = text.command(
        commands,
        "features",
        "list the kinds of features, their front ends and parameters",
        "shardwell features --rate 22050",
        run_features,
    )
    parser.add_argument(
        "--rate",
        type=int,
        default=16000,
        metavar="HZ",
        help="sample rate that the parameters are shown for (default 16000)",
    )
    text.add_json(parser)


def run_list(args: argparse.Namespace) -> int:
    """Print the recipes with their titles and protocols."""
    from pipeline.manifest import load_manifest
    from pipeline.recipe_files import known_recipes

    rows = []
    for name, place in known_recipes().items():
        manifest = load_manifest(place.manifest)
        rows.append({"name": name, "title": manifest.title, "protocols": list(manifest.protocols)})
    if args.json:
        text.print_json(rows)
        return 0
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['title']}")
        print(f"{'':<{width}}  protocols: {', '.join(row['protocols'])}")
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Print a manifest for people, or as JSON."""
    from pipeline.manifest import load_manifest
    from pipeline.recipe_files import locate

    manifest = load_manifest(args.manifest or locate(args.name).manifest)
    if args.json:
        text.print_json(dataclasses.asdict(manifest))
        return 0
    print(f"{manifest.name}: {manifest.title}")
    print(f"licence   {manifest.licence}")
    print(f"pass on   {manifest.redistribution}")
    if manifest.homepage:
        print(f"homepage  {manifest.homepage}")
    print(f"cite      {manifest.citation}")
    print("sources")
    for source in manifest.sources.values():
        origin = _origin(source)
        print(f"  {source.name:<13} {source.file}  {origin}")
        if source.sha256:
            print(f"  {'':<13} sha256 {source.sha256}")
        for url in source.urls:
            print(f"  {'':<13} {url}")
    print("protocols (the first is the default)")
    for protocol in manifest.protocols.values():
        print(f"  {protocol.name:<13} {protocol.about}")
        print(f"  {'':<13} {text.splits(protocol.splits)}")
        if protocol.params:
            print(f"  {'':<13} --params {','.join(_param(*p) for p in protocol.params.items())}")
    return 0


def _origin(source: "Source") -> str:
    if source.own:
        return "your own: name it behind the recipe, or with --source"
    return "made here" if source.generated else text.size(source.bytes)


def _param(name: str, value: Any) -> str:
    """A parameter as ``--params`` reads it."""
    return f"{name}={'+'.join(map(str, value)) if isinstance(value, list) else value}"


def run_features(args: argparse.Namespace) -> int:
    """Print every kind in every front end, with its parameters as they are at a sample rate."""
    from pipeline.features import KINDS, parse, to_dict
    from pipeline.features.front_ends import FRONT_ENDS, front_end
    from pipeline.features.options import options_of

    rows = {}
    for name, kind in KINDS.items():
        own = options_of(kind)
        for front in FRONT_ENDS if "front_end" in own else ("",):
            only = front_end(front, None).sample_rate if front else None
            spec = f"{name}@{front}" if front else name
            rows[spec] = to_dict(parse(spec, only or args.rate))
    if args.json:
        text.print_json(rows)
        return 0
    for spec, row in rows.items():
        hidden = ("kind", "version", "front_end")
        shown = {k: "none" if v is None else v for k, v in row.items() if k not in hidden}
        print(spec)
        lines = textwrap.fill(", ".join(f"{k}={v}" for k, v in shown.items()), 92)
        print(textwrap.indent(lines, "    "))
    print(
        "\nwrite them as KIND[@FRONTEND][:key=value,…]; sample_rate follows --audio sample_rate=…"
    )
    return 0
