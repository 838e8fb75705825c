"""Fits the detector of unknown pictures to an exported model and stores it in its folder.

print(fit_detector(folder, data, Request(rate=0.05)))      unknown.json and unknown.npz
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    SpecError,
    TficError,
    brief,
    counted,
)
from tf_image_classification.evaluation.intervals import FRACTION_BOUNDS, mean_with_interval
from tf_image_classification.evaluation.unknown import (
    DISTANCES,
    MIN_SPREAD,
    Choice,
    Distance,
    Limit,
    auroc,
    auroc_with_interval,
    choose_distance,
    conformal_limit,
    fit_distances,
    spread,
)
from tf_image_classification.evaluation.unknown_detector import Detector, UnknownResult
from tf_image_classification.export.identity import saved_model_fingerprint
from tf_image_classification.export.names import FEATURES, TENSORFLOW
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor
from tf_image_classification.serving.input_images import find_images
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.system import files, screen, signals

MAX_EXAMPLES = 2_000
"""Examples of each set that are looked at, spread evenly over it."""

MAX_FEATURES = 4_096
"""Values that the last layer may take; more would make the stored file large."""

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Request:
    """What to fit.

    Attributes:
        rate: as the option ``unknown_rate``.
        paths: as the option ``unknown_examples``.
    """

    rate: float
    paths: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Request:
        """That of a run's or an evaluation's settings."""
        return cls(settings.evaluation.unknown_rate, settings.evaluation.unknown_examples)


def check_examples(paths: Sequence[str]) -> None:
    """Check the option ``unknown_examples`` before the long part.

    Raises:
        ConfigError: a path is missing, or holds no pictures.
    """
    for path in paths:
        first = next(iter(find_images([path])), None)
        content = None if first is None else first.content()
        if isinstance(content, str) and not files.exists(content):
            content = FileNotFoundError("there is no such file or folder")
        if content is None or isinstance(content, Exception):
            reason = "it holds no pictures" if content is None else str(content).rstrip(".")
            raise ConfigError(
                f"unknown_examples: {path} cannot be used: {reason}. Give a folder of pictures of "
                "none of the classes, pictures, or a CSV that lists them."
            )


def fit_detector(
    folder: ModelFolder,
    request: Request,
    *,
    schema: LabelSchema,
    train: Callable[[], BatchSource | None],
    evaluation: BatchSource | None,
    may_keep_distances: bool = False,
) -> str:
    """Fit the detector to a folder's exported model and store it; returns a line on it.

    The distances are fitted to training examples, the limit to evaluation examples. Where no
    detector is possible the folder stores the reason.

    Args:
        folder: of the run, with its exported model.
        request: rate and unknown examples.
        schema: the labels.
        train: reads the training set; gives None where that is not possible.
        evaluation: the evaluation set, or None.
        may_keep_distances: whether distances that were fitted to this model before are kept.
    """
    made_from = saved_model_fingerprint(folder.saved_model)
    try:
        if not request.rate:
            raise SpecError("unknown_rate is 0")
        with screen.working("fitting the limit for unknown pictures"):
            _forget_damaged(folder, made_from)
            model = predictor.load_model(folder.path, engine=TENSORFLOW)
            before = model.detector if may_keep_distances else None
            detector, notes = _fitted(model, request, schema, train, evaluation, before)
    except SpecError as error:
        files.write_json(folder.unknown, {"step": -1, "saved_model": made_from, "none": str(error)})
        files.remove(folder.unknown_arrays)
        return _line(f"no score: {error}") if request.rate else ""
    content = detector.arrays()
    files.write_bytes(folder.unknown_arrays, content)
    digest = hashlib.sha256(content).hexdigest()
    files.write_json(folder.unknown, detector.facts() | {"sha256": digest})
    return "\n".join([_line(describe(detector)), *notes])


def fit_at_the_end(
    folder: ModelFolder,
    request: Request,
    schema: LabelSchema,
    train: BatchSource | None,
    evaluation: BatchSource | None,
) -> str:
    """As ``fit_detector``, at the end of a training, which no failure of it may spoil."""
    try:
        return fit_detector(
            folder, request, schema=schema, train=lambda: train, evaluation=evaluation
        )
    except (TficError, OSError, tf.errors.OpError) as error:  # the model predicts without it
        if (stopped := signals.cause_of(error)) is not None:
            raise stopped from None
        return _line(f"no score: {error if isinstance(error, TficError) else brief(error)}")


def is_fitted(folder: ModelFolder) -> bool:
    """Whether the folder has a detector, or the reason for none, of its exported model."""
    if files.is_remote(folder.path) or not files.exists(folder.unknown):
        return False
    try:
        stored = files.read_json(folder.unknown)
        return bool(stored["saved_model"] == saved_model_fingerprint(folder.saved_model))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _forget_damaged(folder: ModelFolder, made_from: str) -> None:
    """Remove a detector that cannot be read."""
    try:
        predictor.read_detector(folder, made_from)
    except DataError:
        files.remove(folder.unknown)
        files.remove(folder.unknown_arrays)


def describe(detector: Detector) -> str:
    """The limit and the detection rate in a sentence or two."""
    limit, result = detector.limit, detector.result
    if limit.exists:
        text = (
            f"limit for at most {limit.rate:.3g} of known pictures, by {limit.count} evaluation "
            f"examples (refused of new ones: {limit.low:.3f} to {limit.high:.3f})"
        )
    else:
        text = f"score without a limit: {limit.note}"
    if result is None:
        return text
    detected = "" if result.detected is None else f", fraction above the limit {result.detected}"
    others = counted(result.count, "unknown example")
    return f"{text}; {others}, not those that chose the distance: AUROC {result.auroc}{detected}"


def _line(text: str) -> str:
    return f"unknown:       {text}"


def _fitted(
    model: Predictor,
    request: Request,
    schema: LabelSchema,
    train: Callable[[], BatchSource | None],
    evaluation: BatchSource | None,
    before: Detector | None,
) -> tuple[Detector, list[str]]:
    """The detector, and notes in sentences.

    Raises:
        SpecError: there can be none; gives the reason.
    """
    if model.engine.no_features:
        raise SpecError(f"{model.engine.no_features}")
    fitted = _of_training(model, schema, train) if before is None else _OfTraining.of(before)
    distances, choice, unit = fitted.distances, fitted.choice, fitted.unit
    known = _known(model, evaluation, fitted)
    unknown, notes = _unknown_features(
        model, request.paths, {*fitted.digests.tolist(), *known.digests.tolist()}
    )
    result_of = None
    if len(unknown) and len(known.features):
        choice = _choice_by_examples(distances, unknown[::2], known.features[::2])
        result_of = unknown[1::2], known.features[1::2]
    distance = distances[choice.name]
    of_known = distance(known.features) if len(known.features) else np.zeros(0, np.float32)
    limit = conformal_limit(of_known, request.rate)
    note = known.why_no_limit
    if not limit.value > 0:
        note = "the evaluation examples do not differ from training examples"
    if note:
        limit = Limit(np.inf, request.rate, 0, note=note)
    if limit.exists:
        unit = limit.value
    scale = unit if unit > 0 else 1.0
    detector = Detector(
        model.step,
        model.engine.made_from,
        distances,
        choice,
        limit,
        scale,
        len(fitted.digests),
        fitted.data,
        fitted.digests,
        fitted.fraction,
        known.data,
        known.ids,
        np.asarray(of_known / np.float32(scale), np.float32),
    )
    if result_of is not None:
        result = _result(detector, *map(detector.scores, result_of))
        detector = dataclasses.replace(detector, result=result)
    return detector, notes


@dataclasses.dataclass(frozen=True)
class _OfTraining:
    """What training examples give: distances, choice and unit; fields as those of ``Detector``."""

    distances: Mapping[str, Distance]
    choice: Choice
    unit: float
    data: str
    digests: npt.NDArray[np.uint64]
    fraction: float

    @classmethod
    def of(cls, detector: Detector) -> _OfTraining:
        return cls(
            detector.distances,
            detector.choice,
            detector.scale,
            detector.train_data,
            detector.train_digests,
            detector.train_fraction,
        )


def _of_training(
    model: Predictor, schema: LabelSchema, train: Callable[[], BatchSource | None]
) -> _OfTraining:
    """The distances, fitted to training examples.

    Raises:
        SpecError: there can be none; gives the reason.
    """
    source = train()
    if source is None:
        raise SpecError("the training set cannot be read")
    if source.table is None:
        raise SpecError("the training set is not read by number (input_mode indexed)")
    table = source.table
    label = schema.labels[0] if len(schema.labels) == 1 and schema.labels[0].is_class else None
    numbers = evenly_spaced(table.num_examples, MAX_EXAMPLES)
    if label is not None:
        numbers = numbers[table.columns[label.name].mask[numbers]]
    features, numbers, digests = _features_of_table(model, table, numbers)
    if not len(features):
        raise SpecError("no training example can be used")
    if features.shape[1] > MAX_FEATURES:
        raise SpecError(
            f"the last layer takes {features.shape[1]:,} values, at most {MAX_FEATURES:,}"
        )
    if spread(features) < MIN_SPREAD:
        raise SpecError("the network gives almost the same features for all pictures")
    classes = None if label is None else table.columns[label.name].values[numbers]
    distances = fit_distances(features, classes)
    choice = choose_distance(features, classes)
    unit = distances[choice.name].spread(features)
    fraction = len(numbers) / table.num_examples
    return _OfTraining(distances, choice, unit, table.fingerprint, digests, fraction)


@dataclasses.dataclass(frozen=True)
class _Known:
    """Evaluation examples that were not trained on.

    Attributes:
        features: [n, D].
        ids: their numbers in the set, [n].
        digests: parts of the hashes of their files, [n].
        data: fingerprint of the set; "" without one.
        why_no_limit: why they cannot set the limit, or "".
    """

    features: npt.NDArray[Any]
    ids: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint64]
    data: str
    why_no_limit: str = ""


def _known(model: Predictor, evaluation: BatchSource | None, fitted: _OfTraining) -> _Known:
    """The evaluation examples; those whose file is in the training set as well are left out."""
    nothing = np.zeros([0, 0], np.float32), np.zeros(0, np.int64), np.zeros(0, np.uint64), ""
    if evaluation is None:
        return _Known(*nothing, "there is no evaluation set")
    if evaluation.table is None:
        return _Known(*nothing, "the evaluation set is not read by number")
    table = evaluation.table
    if table.fingerprint == fitted.data:
        return _Known(*nothing, "the evaluation set is the training set")
    numbers = evenly_spaced(table.num_examples, MAX_EXAMPLES)
    features, numbers, digests = _features_of_table(model, table, numbers)
    is_new = ~np.isin(digests, fitted.digests)
    trained = float(1 - is_new.mean()) / fitted.fraction if len(is_new) else 0.0
    why = ""
    if trained > _MOST_TRAINED:
        why = f"about {min(trained, 1):.0%} of the evaluation examples are training examples"
    return _Known(features[is_new], numbers[is_new], digests[is_new], table.fingerprint, why)


_MOST_TRAINED = 0.05  # fraction of the evaluation examples; as the check of a training's data


def _features_of_table(
    model: Predictor, table: Table, numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Features, numbers and digests of the examples that can be used."""
    digests: list[int] = []

    def contents() -> Iterator[bytes]:
        for start in range(0, len(numbers), _BATCH_SIZE):
            part = tf.constant(numbers[start : start + _BATCH_SIZE], tf.int64)
            for data in table.fetch(part).numpy().tolist():
                digests.append(_digest(data))
                yield data

    features, are_usable = _features(model, contents())
    return features, numbers[are_usable], np.array(digests, np.uint64)[are_usable]


def _digest(data: bytes) -> int:
    """The first eight bytes of a file's hash."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _unknown_features(
    model: Predictor, paths: Sequence[str], digests: set[int]
) -> tuple[npt.NDArray[Any], list[str]]:
    """Features of unknown examples that are not in training or evaluation set, and notes."""
    notes, contents, num_same = [], [], 0
    some = list(itertools.islice(find_images(paths), MAX_EXAMPLES))
    for image in some:
        content = image.content()
        if isinstance(content, str):
            try:
                content = files.read_bytes(content)
            except (TficError, OSError, ValueError) as error:
                content = error
        if isinstance(content, bytes) and _digest(content) in digests:
            num_same += 1
            continue
        contents.append(content)
    features, are_usable = _features(model, contents)
    num_bad = int((~are_usable).sum())
    if num_same:
        notes.append(
            f"unknown_examples: {counted(num_same, 'picture')} of {len(some)} left out: the same "
            "file is in the training or evaluation set"
        )
    if num_bad:
        notes.append(
            f"unknown_examples: {counted(num_bad, 'picture')} of {len(some)} cannot be used"
        )
    return features, notes


def _features(
    model: Predictor, contents: Iterable[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Features [n, D] of the images that can be used, and which of all these are."""

    def prepared(content: Any) -> Any:
        try:
            return None if isinstance(content, Exception) else model.prepare(content)
        except (TficError, OSError, ValueError):
            return None

    parts: list[npt.NDArray[Any]] = []
    are_usable: list[bool] = []
    stream = iter(contents)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(itertools.islice(stream, _BATCH_SIZE)):
            images = list(pool.map(prepared, batch))
            are_usable += [image is not None for image in images]
            usable = [image for image in images if image is not None]
            if usable:
                parts.append(model.engine.predictions(usable)[FEATURES])
    features = np.concatenate(parts) if parts else np.zeros([0, 0], np.float32)
    return features, np.array(are_usable, bool)


def _choice_by_examples(
    distances: Mapping[str, Distance], unknown: npt.NDArray[Any], known: npt.NDArray[Any]
) -> Choice:
    """The distance that separates unknown examples best from known ones."""
    areas = {name: auroc(distances[name](unknown), distances[name](known)) for name in distances}
    best = max((name for name in DISTANCES if name in areas), key=areas.__getitem__)
    text = f"{len(unknown)} unknown examples and {len(known)} of the evaluation"
    return Choice(best, areas, text)


def _result(
    detector: Detector, unknown: npt.NDArray[Any], known: npt.NDArray[Any]
) -> UnknownResult:
    """How well the examples that chose nothing are recognised, from their scores."""
    are_unknown = detector.are_unknown(unknown)
    detected = None
    if are_unknown is not None and len(unknown):
        detected = mean_with_interval(are_unknown.astype(float), bounds=FRACTION_BOUNDS)
    return UnknownResult(len(unknown), auroc_with_interval(unknown, known), detected)
