"""A picture of a few examples, as a PNG, drawn without a plotting library."""

from collections.abc import Sequence

import numpy as np

from pipeline.features import Pixels, Tokens, Vector, Waveform
from pipeline.publish.config import Config
from pipeline.publish.media import as_png
from pipeline.publish.rows import Array
from pipeline.publish.webdataset import target_of
from pipeline.shard import Shard, read_shard

EXAMPLES, ACROSS, GAP = 8, 4, 6
WIDTH, HEIGHT = 240, 120
# Five points of the colours that matplotlib calls viridis.
COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])


def picture(config: Config) -> bytes | None:
    """Up to eight examples of a dataset, of different classes where it has them; None for tokens.

    Spectra have time to the right and frequency upwards, dark is low; waveforms their peaks.
    """
    sealed = config.sealed
    if isinstance(sealed.feature, Tokens) or not config.shards:
        return None
    shard = read_shard(sealed.folder / f"{config.shards[0].shard}.arrow", sealed.columns)
    examples = [shard.features(row) for row in _chosen(shard, target_of(sealed))]
    examples = [example for example in examples if example.size]
    if isinstance(sealed.feature, Vector):
        examples = [e.reshape(sealed.feature.height, sealed.feature.width) for e in examples]
    if isinstance(sealed.feature, Pixels | Vector):
        tiles = [np.repeat(_fitted(e)[..., None], 3, axis=2) for e in examples]
    elif isinstance(sealed.feature, Waveform):
        tiles = [_wave(example) for example in examples]
    else:
        mean, std = (sealed.info["statistics"][name] for name in ("mean", "std"))
        if mean is not None:  # else the first coefficient of an MFCC outshines all others
            examples = [(e - np.array(mean)) / np.maximum(std, 1e-9) for e in examples]
        tiles = [_coloured(_fitted(example.T[::-1])) for example in examples]
    return as_png(_mosaic(tiles)) if tiles else None


def _chosen(shard: Shard, target: str | None) -> Sequence[int]:
    """The first row of each of the first classes, then more rows from the beginning."""
    rows = range(len(shard))
    if target is None:
        return rows[:EXAMPLES]
    _, firsts = np.unique(shard.labels[target].to_numpy(), return_index=True)
    others = [row for row in rows[: 2 * EXAMPLES] if row not in firsts]
    return [*firsts.tolist(), *others][:EXAMPLES]


def _fitted(image: Array) -> Array:
    """A picture of ``HEIGHT`` × ``WIDTH`` by its nearest values; grey images keep their shape."""
    height, width = image.shape
    own = min(max(HEIGHT * width // height, 1), 4 * WIDTH)
    wide = own if image.dtype == np.uint8 else WIDTH
    rows = np.arange(HEIGHT) * height // HEIGHT
    fitted: Array = image[rows][:, np.arange(wide) * width // wide]
    return fitted


def _coloured(values: Array) -> Array:
    held = np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0)
    low, high = np.percentile(held, [2, 98])
    place = np.clip((held - low) / max(high - low, 1e-9), 0, 1) * (len(COLOURS) - 1)
    points = np.arange(len(COLOURS))
    channels = [np.interp(place, points, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=2).astype(np.uint8)


def _wave(samples: Array) -> Array:
    """Every column the span of its samples, in the middle of the scale's colours."""
    held = np.nan_to_num(samples.astype(np.float64), nan=0, posinf=0, neginf=0)
    held /= max(np.abs(held).max(), 1e-9)
    edges = np.arange(WIDTH) * len(held) // WIDTH
    high, low = np.maximum.reduceat(held, edges), np.minimum.reduceat(held, edges)
    line = np.linspace(1, -1, HEIGHT)[:, None]
    inside = (line <= high + 1 / HEIGHT) & (line >= low - 1 / HEIGHT)
    return np.where(inside[..., None], COLOURS[1], 255).astype(np.uint8)


def _mosaic(tiles: Sequence[Array]) -> Array:
    """Tiles in rows of four on white."""
    width = max(tile.shape[1] for tile in tiles)
    across = min(ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    canvas = np.full((down * (HEIGHT + GAP) - GAP, across * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * (HEIGHT + GAP), number % across * (width + GAP)
        canvas[top : top + HEIGHT, left : left + tile.shape[1]] = tile
    return canvas
