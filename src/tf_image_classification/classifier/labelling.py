"""``label_next`` and ``forecast``: which images to label next, and what more labels give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.workflows.setup.environment import cache_dir as cache_folder
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.workflows.forecast import Growth
    from tf_image_classification.workflows.label_next import LabelNext

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@keyword_errors()
def label_next(
    unlabelled: Paths,
    labelled: Paths = (),
    *,
    label: str = "",
    model_dir: str | os.PathLike[str] = "",
    count: int = 50,
    rule: str = "auto",
    seed: int = 0,
    output: str | os.PathLike[str] = "",
    cache_dir: str = "",
) -> LabelNext:
    """Choose which images without a label to label next; its ``images`` are in rank order.

    Args:
        unlabelled: sources of images as ``tfic predict`` takes them.
        labelled: sources of labelled images as ``train`` takes them; (): there are none yet.
        label: the column of the classes; "": the only one that can be.
        model_dir: a model folder whose features are used; "": the default backbone.
        count: images to choose.
        rule: "auto", "typical", "margin", "diverse" or "random".
        seed: of the rule.
        output: CSV to write, as ``tfic label-next``; "": none.
        cache_dir: folder of the cache of features; "": the user's cache folder.

    Raises:
        ConfigError: an option is out of its range.
        DataError: a source cannot be read, or no image is left to label.
    """
    settings = settings_of({"cache_dir": cache_dir, "deterministic": False})
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import label_next as choosing

    path = os.fspath(output)
    if path:
        choosing.check_not_filled_in(path)
    found = choosing.label_next(
        _texts(unlabelled),
        _texts(labelled),
        label=label,
        model_dir=os.fspath(model_dir),
        count=count,
        rule=rule,
        seed=seed,
        cache_dir=cache_folder(settings),
    )
    if path:
        choosing.write_tables(path, found)
    return found


@keyword_errors()
def forecast(
    data: Paths,
    *,
    label: str = "",
    labels: Sequence[int] = (),
    more: int = 0,
    seed: int = 0,
    cache_dir: str = "",
) -> Growth:
    """Forecast the accuracy with more labels, overall and by class, with 90 % intervals.

    Args:
        data: sources of labelled images as ``train`` takes them.
        label: the column of the classes; "": the only one that can be.
        labels: numbers of labels to forecast; (): 1.5, 2 and 4 times as many as there are.
        more: further labels of each class; 0: as many as the class has.
        seed: of folds and subsets.
        cache_dir: folder of the cache of features; "": the user's cache folder.

    Raises:
        ConfigError: a number of labels cannot be forecast.
        DataError: a source cannot be read, has one class, or too few labels.
    """
    settings = settings_of({"cache_dir": cache_dir, "deterministic": False})
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import forecast as forecasting

    return forecasting.forecast(
        _texts(data),
        label=label,
        labels=labels,
        more=more,
        seed=seed,
        cache_dir=cache_folder(settings),
    )


def _texts(paths: Paths) -> list[str]:
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [os.fspath(path) for path in given]
