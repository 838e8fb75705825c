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
    detected = "" if result.detected is None else f", {result.detected} above the limit"
    return f"{text}; {counted(result.count, 'unknown example')}: AUROC {result.auroc}{detected}"


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
    digests: set[str] = set()
    label = schema.labels[0] if len(schema.labels) == 1 and schema.labels[0].is_class else None
    distances: Mapping[str, Distance]
    if before is None:
        table = _table(train(), "the training set")
        numbers = evenly_spaced(table.num_examples, MAX_EXAMPLES)
        if label is not None:
            numbers = numbers[table.columns[label.name].mask[numbers]]
        features, numbers = _features_of_table(model, table, numbers, digests)
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
        num_train, train_data = len(features), table.fingerprint
        unit = float(np.median(distances[choice.name](features)))
    else:
        distances, choice, num_train = before.distances, before.choice, before.num_train
        train_data, unit = "", before.scale
    known, ids, data, note = _known_features(model, evaluation, train_data, digests)
    unknown, notes = _unknown_features(model, request.paths, digests)
    result_of = None
    if len(unknown) and len(known):
        choice = _choice_by_examples(distances, unknown[::2], known[::2])
        result_of = unknown[1::2], known[1::2]
    distance = distances[choice.name]
    of_known = distance(known) if len(known) else np.zeros(0, np.float32)
    limit = conformal_limit(of_known, request.rate)
    if not limit.value > 0:
        note = "the evaluation examples do not differ from training examples"
    if note:
        limit = Limit(np.inf, request.rate, 0, note=note)
    if limit.exists:
        unit = limit.value
    elif len(known):
        unit = float(np.median(of_known))
    scale = unit if unit > 0 else 1.0
    detector = Detector(
        model.step,
        model.engine.made_from,
        distances,
        choice,
        limit,
        scale,
        num_train,
        data,
        ids,
        np.asarray(of_known / np.float32(scale), np.float32),
    )
    if result_of is not None:
        result = _result(detector, *map(detector.scores, result_of))
        detector = dataclasses.replace(detector, result=result)
    return detector, notes


def _table(source: BatchSource | None, name: str) -> Table:
    """The examples of a set by number.

    Raises:
        SpecError: there are none.
    """
    if source is None:
        raise SpecError(f"{name} cannot be read")
    if source.table is None:
        raise SpecError(f"{name} is not read by number (input_mode indexed)")
    return source.table


def _known_features(
    model: Predictor, evaluation: BatchSource | None, train_data: str, digests: set[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], str, str]:
    """Features of evaluation examples, their numbers, the set's fingerprint, and why none count."""
    nothing = np.zeros([0, 0], np.float32), np.zeros(0, np.int64), ""
    if evaluation is None:
        return *nothing, "there is no evaluation set"
    if evaluation.table is None:
        return *nothing, "the evaluation set is not read by number"
    table = evaluation.table
    if table.fingerprint == train_data:
        return *nothing, "the evaluation set is the training set"
    numbers = evenly_spaced(table.num_examples, MAX_EXAMPLES)
    found, numbers = _features_of_table(model, table, numbers, digests)
    return found, numbers, table.fingerprint, ""


def _features_of_table(
    model: Predictor, table: Table, numbers: npt.NDArray[np.int64], digests: set[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Features of examples, and the numbers of those that can be used; adds their digests."""

    def contents() -> Iterator[bytes]:
        for start in range(0, len(numbers), _BATCH_SIZE):
            part = tf.constant(numbers[start : start + _BATCH_SIZE], tf.int64)
            yield from table.fetch(part).numpy().tolist()

    def noted() -> Iterator[bytes]:
        for data in contents():
            digests.add(hashlib.sha256(data).hexdigest())
            yield data

    features, are_usable = _features(model, noted())
    return features, numbers[are_usable]


def _unknown_features(
    model: Predictor, paths: Sequence[str], digests: set[str]
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
        if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() in digests:
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
