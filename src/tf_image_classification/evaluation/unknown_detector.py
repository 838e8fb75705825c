"""The detector of unknown pictures that a model folder stores: a distance, its unit and its limit.

detector = Detector.from_files(facts, arrays)        of unknown.json and unknown.npz
scores = detector.scores(features)                   with a limit, above 1: unknown
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.unknown import Choice, Distance, Floats, Limit

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class UnknownResult:
    """How well unknown examples were recognised that did not choose the distance.

    Attributes:
        count: their number.
        auroc: the probability that an unknown picture is farther than a known one.
        detected: the fraction above the limit; None without a limit.
    """

    count: int
    auroc: Interval
    detected: Interval | None


@dataclasses.dataclass(frozen=True)
class Detector:
    """The score of unknown pictures of one exported model.

    Attributes:
        step: of the model.
        made_from: fingerprint of the exported model.
        distances: those that were fitted, by name.
        choice: the one that is used.
        limit: on its distance.
        scale: unit of the score: the limit, or without one the root mean square of the training
            examples' distance to their mean.
        num_train: training examples that were fitted.
        train_data: fingerprint of the training set.
        train_digests: uint64 [num_train], parts of the hashes of these examples' files.
        train_fraction: fraction of the training set that they are, 0..1.
        data: fingerprint of the evaluation set; "" without one.
        ids: int64 [n], indices in it of the examples that set the limit.
        known_scores: their scores [n].
        result: for unknown examples, or None.
    """

    step: int
    made_from: str
    distances: Mapping[str, Distance]
    choice: Choice
    limit: Limit
    scale: float
    num_train: int
    train_data: str
    train_digests: npt.NDArray[np.uint64]
    train_fraction: float
    data: str = ""
    ids: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    known_scores: Floats = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    result: UnknownResult | None = None

    @property
    def distance(self) -> Distance:
        """The distance that is used."""
        return self.distances[self.choice.name]

    def scores(self, features: Array) -> Floats:
        """The score of each example [n] for features [n, D]."""
        return np.asarray(self.distance(features) / np.float32(self.scale), np.float32)

    def are_unknown(self, scores: Array) -> npt.NDArray[np.bool_] | None:
        """Whether each example is refused; None without a limit."""
        return np.asarray(scores) > 1 if self.limit.exists else None

    def fingerprint(self) -> str:
        """A hash of everything that decides a score."""
        digest = hashlib.sha256(f"{self.made_from} {self.choice.name} {self.scale!r}".encode())
        for values in self.distance.parts():
            digest.update(values.tobytes())
        return digest.hexdigest()

    def described(self) -> dict[str, Any]:
        """What an exported file's description holds of it."""
        limit = self.limit
        return {
            "output": "unknown_score, float32 [n]: distance to the training set"
            + (", above 1: none of the classes" if limit.exists else ", without a limit"),
            "distance": self.choice.name,
            "fingerprint": self.fingerprint(),
            "limit": 1.0 if limit.exists else None,
            "rate": limit.rate,
            "known_refused": [limit.low, limit.high] if limit.exists else None,
            "examples": limit.count,
            "note": limit.note,
        }

    def facts(self) -> dict[str, Any]:
        """Plain values of everything but the arrays."""
        result = self.result
        return {
            "step": self.step,
            "saved_model": self.made_from,
            "distances": list(self.distances),
            "choice": dataclasses.asdict(self.choice),
            "limit": _plain(self.limit),
            "scale": self.scale,
            "num_train": self.num_train,
            "train_data": self.train_data,
            "train_fraction": self.train_fraction,
            "data": self.data,
            "unknown_examples": None
            if result is None
            else {
                "count": result.count,
                "auroc": _plain(result.auroc),
                "detected": None if result.detected is None else _plain(result.detected),
            },
        }

    def arrays(self) -> bytes:
        """The arrays, as the content of an .npz file."""
        first = next(iter(self.distances.values()))
        found: dict[str, Array] = {"mean": first.mean, "basis": first.basis}
        for name, distance in self.distances.items():
            found[f"{name}_scaling"], found[f"{name}_centres"] = distance.scaling, distance.centres
            found[f"{name}_rest_weight"] = np.float32(distance.rest_weight)
        found |= {"train_digests": self.train_digests}
        found |= {"ids": self.ids, "known_scores": self.known_scores}
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **found)
        return stream.getvalue()

    @classmethod
    def from_files(cls, facts: Mapping[str, Any], content: bytes) -> Detector:
        """The detector from ``facts`` and ``arrays``.

        Raises:
            KeyError, TypeError, ValueError, OSError: they are damaged.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            distances = {
                name: Distance(
                    name,
                    arrays["mean"],
                    arrays["basis"],
                    arrays[f"{name}_scaling"],
                    arrays[f"{name}_centres"],
                    float(arrays[f"{name}_rest_weight"]),
                )
                for name in facts["distances"]
            }
            ids, known_scores = arrays["ids"], arrays["known_scores"]
            train_digests = arrays["train_digests"]
        unknown, result = facts["unknown_examples"], None
        if unknown is not None:
            detected = unknown["detected"]
            result = UnknownResult(
                unknown["count"],
                Interval(**_exact(unknown["auroc"])),
                None if detected is None else Interval(**_exact(detected)),
            )
        limit = _exact(facts["limit"])
        if math.isnan(limit["value"]):
            limit["value"] = math.inf
        return cls(
            facts["step"],
            facts["saved_model"],
            distances,
            Choice(**facts["choice"]),
            Limit(**limit),
            facts["scale"],
            facts["num_train"],
            facts["train_data"],
            train_digests,
            facts["train_fraction"],
            facts["data"],
            ids,
            known_scores,
            result,
        )


def _plain(value: Limit | Interval) -> dict[str, Any]:
    """The fields; numbers that are not finite become null."""
    return {
        name: None if isinstance(one, float) and not math.isfinite(one) else one
        for name, one in dataclasses.asdict(value).items()
    }


def _exact(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if one is None else one for name, one in fields.items()}
