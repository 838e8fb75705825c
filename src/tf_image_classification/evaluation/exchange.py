"""All-gather of rows and arrays between workers, on top of ``Workers.exchange``."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Exchange = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""The numbers of this worker, float64 [n], to those of all, [W, n]."""


def exchange_rows(rows: npt.NDArray[Any], exchange: Exchange) -> list[npt.NDArray[Any]]:
    """The rows [n, ...] of every worker, in rank order; n may differ between workers."""
    counts = exchange(np.array([len(rows)], np.float64))[:, 0].astype(int)
    padded = np.zeros([counts.max(), *rows.shape[1:]])
    padded[: len(rows)] = rows
    of_workers = exchange(padded.ravel()).reshape([len(counts), *padded.shape])
    return [part[:n].astype(rows.dtype) for part, n in zip(of_workers, counts, strict=True)]


def exchange_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], exchange: Exchange
) -> list[dict[str, npt.NDArray[Any]]]:
    """The named arrays of every worker, in rank order and with the same bits."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub has a keyword of type bool
    data = file.getvalue()
    words = np.frombuffer(data + bytes(-len(data) % 4), np.uint32)  # float64 holds them exactly
    parts = [io.BytesIO(part.tobytes()) for part in exchange_rows(words, exchange)]
    return [dict(np.load(part, allow_pickle=False)) for part in parts]
