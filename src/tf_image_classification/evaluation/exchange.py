"""Rows of which each worker has its own number, at all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Exchange = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""The numbers of this worker, float64 [n], to those of all, [W, n]."""


def exchange_rows(rows: npt.NDArray[Any], exchange: Exchange) -> list[npt.NDArray[Any]]:
    """This worker's rows [n, ...] to those of each worker, in the order of their ranks."""
    counts = exchange(np.array([len(rows)], np.float64))[:, 0].astype(int)
    padded = np.zeros([counts.max(), *rows.shape[1:]])
    padded[: len(rows)] = rows
    of_workers = exchange(padded.ravel()).reshape([len(counts), *padded.shape])
    return [part[:n].astype(rows.dtype) for part, n in zip(of_workers, counts, strict=True)]
