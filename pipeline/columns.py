"""Arrow columns from and to NumPy, sharing memory and without pandas.

``pa.array`` and ``to_numpy`` would do, but they import pandas, which costs every worker 0.2 s and
60 MB.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import BuildError

Array = npt.NDArray[Any]


def numbers(values: Sequence[Any] | Array, dtype: str) -> pa.Array:
    """Numbers as an Arrow array that shares their memory."""
    held = np.ascontiguousarray(values, dtype=dtype)
    kind = pa.from_numpy_dtype(held.dtype)
    return pa.Array.from_buffers(kind, len(held), [None, pa.py_buffer(held)])


def strings(values: Sequence[str]) -> pa.Array:
    """Texts as an Arrow array."""
    encoded = [value.encode() for value in values]
    buffers = [
        None,
        pa.py_buffer(_offsets([len(e) for e in encoded])),
        pa.py_buffer(b"".join(encoded)),
    ]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def with_nulls(array: pa.Array, missing: Sequence[bool]) -> pa.Array:
    """An array of numbers or texts, null where its value is ``missing``."""
    valid = np.packbits(~np.asarray(missing, bool), bitorder="little")
    return pa.Array.from_buffers(
        array.type, len(array), [pa.py_buffer(valid), *array.buffers()[1:]]
    )


def lists(lengths: Sequence[int] | Array, values: pa.Array) -> pa.Array:
    """Runs of ``values`` of the given lengths as an Arrow list array."""
    kind, offsets = pa.list_(values.type), pa.py_buffer(_offsets(lengths))
    return pa.Array.from_buffers(kind, len(lengths), [None, offsets], children=[values])


def view(array: pa.Array) -> Array:
    """An Arrow array of numbers without nulls as a NumPy view."""
    kind = np.dtype(array.type.to_pandas_dtype())
    _, data = array.buffers()
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(data, kind, len(array), array.offset * kind.itemsize)


def _offsets(lengths: Sequence[int] | Array) -> npt.NDArray[np.int32]:
    """Where each of consecutive runs begins, and the last ends: (len + 1,) int32."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise BuildError(f"a shard would hold {offsets[-1]:,} values: expected at most 2^31 - 1")
    return offsets.astype(np.int32)
