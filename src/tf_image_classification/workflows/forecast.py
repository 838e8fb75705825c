"""``tfic forecast``: the accuracy to expect with more labels, from learning curves on features.

found = forecast(["pets"], cache_dir=cache_dir)
found.overall[-1].forecast.gain
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_image_classification.errors import ConfigError, DataError, counted
from tf_image_classification.evaluation import learning_curve as curves
from tf_image_classification.evaluation.learning_curve import (
    FARTHEST,
    MIN_LABELS,
    MIN_OF_CLASS,
    Expected,
    Forecast,
)
from tf_image_classification.evaluation.probe import Ints, probe_space
from tf_image_classification.report.forecast import ForecastPage
from tf_image_classification.system import screen
from tf_image_classification.workflows.labelled_images import image_features, labelled_images

_TIMES = (1.5, 2.0, 4.0)
_MOST_CLASSES = 20
_MOST_IMAGES = 5_000  # a random subset of more; the curve is nearly flat there
_WORTH = 0.01  # of the accuracy: a gain that is worth labels


@dataclasses.dataclass(frozen=True)
class Target:
    """A forecast for one number of labels.

    Attributes:
        num_labels: labels with which the forecast is made.
        forecast: the score now, then, and the gain.
    """

    num_labels: int
    forecast: Forecast


@dataclasses.dataclass(frozen=True)
class ClassForecast:
    """The F1 score of a class with more labels of this class alone.

    Attributes:
        name: of the class.
        num_labels: that there are.
        more: further ones.
        forecast: the score now, then, and the gain; None where there are too few labels.
    """

    name: str
    num_labels: int
    more: int
    forecast: Forecast | None


@dataclasses.dataclass(frozen=True)
class Growth:
    """What more labels are expected to give.

    Attributes:
        num_labels: that there are.
        num_left_out: images without a label, that cannot be used, or of classes with too few.
        points: numbers of labels and accuracies of the learning curve.
        overall: the accuracy by number of labels, all classes growing alike.
        classes: by class, the smallest F1 score first.
        verdict: a sentence.
    """

    num_labels: int
    num_left_out: int
    points: Sequence[tuple[float, float]]
    overall: Sequence[Target]
    classes: Sequence[ClassForecast]
    verdict: str


def forecast(
    sources: Sequence[str],
    *,
    label: str = "",
    labels: Sequence[int] = (),
    more: int = 0,
    seed: int = 0,
    max_pixels: int = 0,
    cache_dir: str = "",
) -> Growth:
    """The accuracy to expect with more labels; the same for the same images, labels and seed.

    Args:
        sources: labelled images, as a training takes them.
        label: the column of the classes; "": the only one that can be.
        labels: numbers of labels to forecast; (): 1.5, 2 and 4 times as many as there are.
        more: further labels of each class; 0: as many as the class has.
        seed: of folds and subsets.
        max_pixels: larger images are not decoded; 0: the default.
        cache_dir: folder of the cache of features; "": they are not kept.

    Raises:
        DataError: a source cannot be read, has one class, or too few labels.
        ConfigError: a number of labels is not larger than that of the images, or too large.
    """
    known = labelled_images(sources, option="DATA", label=label, cache_dir=cache_dir)
    _check_enough(known.labels, known.classes, sources)
    features = image_features(known.places, cache_dir=cache_dir, max_pixels=max_pixels)
    screen.say(features.note())
    able = np.array([i for i in range(len(known.places)) if i not in features.problems], np.int64)
    counts = np.bincount(known.labels[able], minlength=len(known.classes))
    kept = able[counts[known.labels[able]] >= MIN_OF_CLASS]
    _check_enough(known.labels[kept], known.classes, sources)
    num_labels = len(kept)
    targets = _targets(labels, num_labels)
    if num_labels > _MOST_IMAGES:
        kept = np.sort(np.random.default_rng(seed).permutation(kept)[:_MOST_IMAGES])
    space, numbers = probe_space(features.values[kept]), known.labels[kept]
    num_classes = len(known.classes)
    with screen.progress("learning curve", "fold") as show:
        curve = curves.learning_curve(
            space, numbers, num_classes=num_classes, seed=seed, on_fits=show
        )
    overall = [
        Target(target, curves.forecast(curve, now=num_labels, then=target, seed=seed))
        for target in targets
    ]
    classes = [
        ClassForecast(name, int(counts[k]), more or int(counts[k]), None)
        for k, name in enumerate(known.classes)
    ]
    with screen.progress("classes", "class") as show:
        able_ones = [k for k in range(num_classes) if counts[k] >= MIN_OF_CLASS][:_MOST_CLASSES]
        for done, k in enumerate(able_ones, start=1):
            classes[k] = _of_class(classes[k], k, space, numbers, num_classes, num_labels, seed)
            show(done, len(able_ones))
    return Growth(
        num_labels=num_labels,
        num_left_out=known.num_without + len(known.places) - len(able) + _too_few(counts),
        points=list(zip(curve.sizes.tolist(), curve.scores.tolist(), strict=True)),
        overall=overall,
        classes=sorted(classes, key=lambda one: one.forecast.now.value if one.forecast else 2.0),
        verdict=_verdict(overall),
    )


def _too_few(counts: Ints) -> int:
    return int(counts[counts < MIN_OF_CLASS].sum())


def _check_enough(labels: Ints, classes: Sequence[str], sources: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    usable = counts[counts >= MIN_OF_CLASS]
    where = ", ".join(sources)
    if len(usable) < 2:
        raise DataError(
            f"{where}: {counted(len(usable), 'class has', 'classes have')} at least "
            f"{MIN_OF_CLASS} labels that can be used. Expected two classes or more: label more."
        )
    if usable.sum() < MIN_LABELS:
        raise DataError(
            f"{where} has {counted(int(usable.sum()), 'label')} that can be used, too few for a "
            f"forecast. Expected at least {MIN_LABELS}: label more, e.g. those of tfic label-next."
        )


def _targets(labels: Sequence[int], num_labels: int) -> list[int]:
    for target in labels:
        if not num_labels < target <= FARTHEST * num_labels:
            raise ConfigError(
                f"--labels {target}: there are {num_labels} labels, and a forecast reaches up to "
                f"{FARTHEST:.0f} times as many. Expected {num_labels + 1} to "
                f"{int(FARTHEST * num_labels)}."
            )
    return sorted(labels) or [round(times * num_labels) for times in _TIMES]


def _of_class(
    one: ClassForecast,
    k: int,
    space: Any,
    numbers: Ints,
    num_classes: int,
    num_labels: int,
    seed: int,
) -> ClassForecast:
    more = min(one.more, int((FARTHEST - 1) * one.num_labels))
    curve = curves.class_curve(space, numbers, k, num_classes=num_classes, seed=seed)
    scale = len(numbers) / num_labels  # of a subset of many images
    found = curves.forecast(
        curve, now=scale * one.num_labels, then=scale * (one.num_labels + more), seed=seed
    )
    return dataclasses.replace(one, more=more, forecast=found)


def _verdict(overall: Sequence[Target]) -> str:
    """Whether more labels help, by the farthest forecast."""
    last = overall[-1]
    gain, to = last.forecast.gain, f"{last.num_labels:,} labels"
    if gain.high < _WORTH:
        return f"More labels of the same kind hardly help: at most {gain.high:+.3f} with {to}."
    if gain.low > _WORTH:
        return f"More labels help: {gain.low:+.3f} to {gain.high:+.3f} with {to}."
    return (
        f"Whether more labels help cannot be told: {gain.low:+.3f} to {gain.high:+.3f} with {to}."
    )


def summary(found: Growth) -> list[str]:
    """Lines for people."""
    lines = [f"{counted(found.num_labels, 'label')}; accuracy with 90 % intervals:"]
    if found.num_left_out:
        lines.insert(
            0,
            f"{counted(found.num_left_out, 'image is', 'images are')} left out: without a label, "
            f"unusable, or of a class with fewer than {MIN_OF_CLASS}",
        )
    now = found.overall[0].forecast.now
    lines.append(f"  {found.num_labels:>7,} labels (now)  {text(now)}")
    for target in found.overall:
        gain = target.forecast.gain
        lines.append(
            f"  {target.num_labels:>7,} labels        {text(target.forecast.then)}  "
            f"gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
    lines.append("F1 of a class with more labels of this class alone:")
    width = max(len(one.name) for one in found.classes)
    for one in found.classes:
        if one.forecast is None:
            lines.append(f"  {one.name:<{width}}  {one.num_labels} labels: too few, or not shown")
            continue
        gain = one.forecast.gain
        lines.append(
            f"  {one.name:<{width}}  {one.num_labels:>5} + {one.more:<5} "
            f"{one.forecast.now.value:.2f} to {text(one.forecast.then)}  "
            f"gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
    return [*lines, found.verdict]


def text(one: Expected) -> str:
    """A value with its interval."""
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def as_json(found: Growth) -> dict[str, Any]:
    """The forecast as JSON values."""
    return dataclasses.asdict(found)


def page_content(found: Growth, title: str) -> ForecastPage:
    """What the page shows."""
    now = found.overall[0].forecast.now
    rows: list[tuple[int, Expected, Expected | None]] = [(found.num_labels, now, None)]
    rows += [(one.num_labels, one.forecast.then, one.forecast.gain) for one in found.overall]
    return ForecastPage(
        title=title,
        verdict=found.verdict,
        points=found.points,
        rows=rows,
        classes=[(one.name, one.num_labels, one.more, one.forecast) for one in found.classes],
    )
