"""``compare``: two models on the same examples, and whether the second may replace the first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.classifier import html
from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.model import Classifier
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.evaluation.compare import Comparison
    from tf_image_classification.evaluation.gate import Gate
    from tf_image_classification.workflows.compare import Compared

Model = str | os.PathLike[str] | Classifier
"""A model folder, its predictions, an exported file, a server's address or a CSV."""


class ComparedModels:
    """The result of ``compare``; printed, it is the text of ``tfic compare``."""

    def __init__(self, compared: Compared) -> None:
        """Wrap the comparison of a task."""
        self._compared = compared

    @property
    def is_shown(self) -> bool:
        """Whether the claim is shown; True without a claim."""
        return self._compared.is_shown

    @property
    def gate(self) -> Gate | None:
        """The test of the claim by label, with its slices; None without a claim."""
        return self._compared.gate

    @property
    def comparisons(self) -> Mapping[str, Comparison]:
        """The comparison of the main metric, by label name."""
        return self._compared.comparisons

    @property
    def notes(self) -> Sequence[str]:
        """Sentences on examples without a prediction."""
        return self._compared.notes

    def write_html(self, path: str | os.PathLike[str]) -> str:
        """Write the page with the changed predictions; returns its path."""
        from tf_image_classification.workflows.compare import write_page

        write_page(os.fspath(path), self._compared)
        return os.fspath(path)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``tfic compare --json`` writes them."""
        return self._compared.to_json()

    def __repr__(self) -> str:
        from tf_image_classification.workflows.compare import lines

        return "\n".join(lines(self._compared, show=5))

    def _repr_html_(self) -> str:
        return html.text(repr(self))


@keyword_errors()
def compare(
    a: Model,
    b: Model,
    *,
    equivalent: float | str | None = None,
    not_worse: float | str | None = None,
    better: float | str | bool | None = None,
    metric: str = "",
    slices: str | Sequence[str] = (),
    slice_margin: float | str | None = None,
    group_column: str = "",
    token: str = "",
    **options: Any,
) -> ComparedModels:
    """A paired test of two models, and whether a claim about the second is shown.

    Args:
        a: the first model: a ``Classifier``, a model folder, its predictions.parquet, an exported
            file or folder, the address of a server, or a CSV of predictions.
        b: the second.
        equivalent: margin of the claim that B differs from A by less, e.g. 0.01 or "1%".
        not_worse: margin of the claim that B is less than this worse.
        better: margin of the claim that B is more than this better; True: 0.
        metric: of the claim; "": accuracy, exact match or mean absolute error.
        slices: columns for each of whose values the claim must be shown too.
        slice_margin: of the claim for slices; None: that of the whole.
        group_column: column that groups dependent examples, e.g. person.
        token: bearer token of a server.
        options: options of ``tfic compare``, e.g. ``eval_metadata="new_pictures"``.

    Raises:
        TficError: a model cannot be used, or they have no examples in common.
    """
    from tf_image_classification.evaluation.claims import make_claim, read_margin

    claim = make_claim(equivalent, not_worse, better)
    if claim is None and (metric or slices):
        raise UsageError("metric and slices need one of equivalent, not_worse and better.")
    if slice_margin is not None and not slices:
        raise UsageError("slice_margin has no effect without slices. Name the columns.")
    settings = settings_of(options)
    prepare_tensorflow(settings)
    from tf_image_classification.workflows.compare import compare_models

    return ComparedModels(
        compare_models(
            _name(a),
            _name(b),
            settings,
            claim=claim,
            metric=metric,
            slices=[slices] if isinstance(slices, str) else slices,
            slice_margin=None
            if slice_margin is None
            else read_margin("slice_margin", slice_margin),
            group=group_column,
            token=token,
        )
    )


def _name(model: Model) -> str:
    return model.model_dir if isinstance(model, Classifier) else os.fspath(model)
