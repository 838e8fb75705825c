"""``cross_validate`` from Python, and its result as notebooks show it.

result = cross_validate("pets", folds=5, epochs=3)
result.scores["label"], result.folds[0].predict("cat.jpg")
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tf_image_classification.classifier import html
from tf_image_classification.classifier.frames import data_frame
from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.model import Classifier, load_model
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.classifier.shown import ReportPage
from tf_image_classification.config import Settings
from tf_image_classification.errors import UsageError, did_you_mean
from tf_image_classification.workflows.setup.environment import prepare_tensorflow
from tf_image_classification.workflows.setup.fold_options import FoldOptions

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.evaluation.intervals import Interval
    from tf_image_classification.workflows.pool_folds import CrossValidation


class CrossValidated(Mapping[str, "Interval"]):
    """The result of a cross-validation: by label name the main metric, with its interval.

    Attributes:
        model_dir: its folder.
    """

    def __init__(self, result: CrossValidation) -> None:
        self._result = result
        self.model_dir = result.model_dir

    @property
    def scores(self) -> Mapping[str, Interval]:
        """By label its main metric over all examples: accuracy, exact match or mean error."""
        return self._result.scores

    @property
    def metrics(self) -> Mapping[str, Interval]:
        """All metrics of the pooled predictions by name; with several labels LABEL/NAME."""
        labels = self._result.analysis.labels
        return {
            (f"{label}/{name}" if len(labels) > 1 else name): interval
            for label, found in labels.items()
            for name, interval in found.measures.overall.items()
        }

    @functools.cached_property
    def folds(self) -> tuple[Classifier, ...]:
        """The models of the folds.

        Raises:
            DataError: they have no exported model.
        """
        return tuple(load_model(one.fold.folder.path) for one in self._result.folds)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each fold.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(
            [
                {"repeat": one.fold.repeat, "fold": one.fold.number, "group": one.fold.group}
                | {"examples": one.num_examples}
                | {name: score.value for name, score in one.scores.items()}
                for one in self._result.folds
            ]
        )

    @keyword_errors()
    def report(self, *, output: str | os.PathLike[str] = "", group_column: str = "") -> ReportPage:
        """Write the report of all examples, an HTML page; a notebook shows it.

        Args:
            output: HTML file to write; empty: ``report.html`` in the folder.
            group_column: column that groups dependent examples; empty: that of the folds.

        Raises:
            TficError: the folds have no exported model, or their examples are gone.
        """
        settings = settings_of({"model_dir": self.model_dir})
        prepare_tensorflow(settings)
        from tf_image_classification.workflows.report import write_report

        return ReportPage(*write_report(settings, group=group_column, output=os.fspath(output)))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``tfic cross-validate --json`` writes them."""
        return self._result.to_json()

    def __getitem__(self, name: str) -> Interval:
        if name not in self.scores:
            raise KeyError(f"There is no label {name!r}. {did_you_mean(name, self.scores)}")
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        from tf_image_classification.workflows.cross_validate import table

        return table(self._result)

    def _repr_html_(self) -> str:
        return html.text(repr(self))


def cross_validate(
    data: Any = None,
    settings: Settings | None = None,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    leave_one_group_out: bool = False,
    processes: int = 1,
    spec: EstimatorSpec | None = None,
    **options: Any,
) -> CrossValidated:
    """Train and evaluate on every fold of a data set; ``tfic cross-validate`` from Python.

    Each example is scored once, by a model that was trained without it. The same call resumes an
    interrupted cross-validation.

    Args:
        data: all examples, as ``train`` takes its training set; None: that of the settings.
        settings: settings that the options override; None: the defaults.
        folds: parts that the examples are divided into; None: 5.
        repeats: divisions into folds, each with trainings of its own; None: 1.
        leave_one_group_out: hold out one group of ``group_column`` after the other instead.
        processes: folds that are trained at the same time; built-in backbones only.
        spec: the classifier; None: a built-in backbone.
        options: any option of ``tfic cross-validate``, e.g. ``epochs=3, model_dir="cv/pets"``.

    Raises:
        TficError: an option cannot be followed, or a fold failed; the others are kept.
        RunInterrupted: a signal stopped it.

    Example:
        >>> result = cross_validate("pets", folds=5)  # doctest: +SKIP
        >>> print(result["label"])  # doctest: +SKIP
        0.791 [0.741, 0.834]
    """
    with keyword_errors():
        if leave_one_group_out and not (folds is None and repeats is None):
            raise UsageError("leave_one_group_out makes each group a fold. Remove folds, repeats.")
        chosen = FoldOptions(
            _at_least("folds", 5 if folds is None else folds, 2),
            _at_least("repeats", 1 if repeats is None else repeats, 1),
            leave_one_group_out,
        )
        _at_least("processes", processes, 1)
        prepare_tensorflow(settings or Settings())
        given = options if data is None else {"train_metadata": data, **options}
        settings = settings_of(given, settings)
        from tf_image_classification.workflows import cross_validate as validating

        found = validating.cross_validate(spec, settings, chosen, processes=processes)
        print(validating.table(found))
        return CrossValidated(found)


def _at_least(name: str, value: Any, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UsageError(f"{name} is {value!r}, expected a whole number of at least {minimum}.")
    return value
