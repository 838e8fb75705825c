"""``tfic compare``: two models on the same examples, and whether the second may replace the first.

found = compare_models("runs/pets", "runs/pets/exports/litert-int8", settings, claim=claim)
found.is_shown
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.config import Settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation import compare
from tf_image_classification.evaluation.analysis import FOUND_GROUPS
from tf_image_classification.evaluation.claim_test import Tested, p_value_text, power_text
from tf_image_classification.evaluation.claims import Claim
from tf_image_classification.evaluation.compare import Comparison
from tf_image_classification.evaluation.gate import (
    Gate,
    LabelGate,
    judge,
    needs_probabilities,
    of_cross_validation,
)
from tf_image_classification.evaluation.pairing import LabelPair, pair
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.pages.render import render
from tf_image_classification.report import flips
from tf_image_classification.serving.light.decode import decode
from tf_image_classification.serving.rendering import seen_image
from tf_image_classification.system import files
from tf_image_classification.workflows.compared_models import FOLDER, Images, kind_of, read_models

_MAX_PIXELS = 2**28
_SIDE = 160  # of a thumbnail, in pixels


@dataclasses.dataclass(frozen=True)
class Compared:
    """The comparison of two models.

    Attributes:
        a: the first model, as it was named.
        b: the second.
        comparisons: by label name.
        gate: of a claim; None without one.
        notes: on examples without a prediction and on groups, in sentences.
        pairs: the examples by label name.
        images: of the examples, by index; None where they are not at hand.
        a_is_without: labels with classes for which the first model gives no probabilities.
        b_is_without: the same of the second.
    """

    a: str
    b: str
    comparisons: Mapping[str, Comparison]
    gate: Gate | None
    notes: Sequence[str]
    pairs: Mapping[str, LabelPair]
    images: Images | None
    a_is_without: Sequence[str] = ()
    b_is_without: Sequence[str] = ()

    @property
    def is_shown(self) -> bool:
        """Whether the claim is shown; True without a claim."""
        return self.gate is None or self.gate.is_shown

    def to_json(self) -> dict[str, Any]:
        """Plain values: the comparisons by label name, and under ``gate`` the gate."""
        comparisons = compare.as_json(self.comparisons)
        if self.gate is None:
            return comparisons
        return {"gate": self.gate.to_json(), "comparison": comparisons, "notes": [*self.notes]}


def compare_models(
    a: str,
    b: str,
    settings: Settings,
    *,
    claim: Claim | None = None,
    metric: str = "",
    slices: Sequence[str] = (),
    slice_margin: float | None = None,
    group: str = "",
    token: str = "",
) -> Compared:
    """Compare two models on the examples that both have predictions for.

    Args:
        a: the first, as ``compared_models.read_models`` takes it.
        b: the second.
        settings: with ``eval_metadata`` to evaluate model folders on other examples.
        claim: to be shown, or None.
        metric: of the claim, as ``gate.judge``.
        slices: of the claim, as ``gate.judge``.
        slice_margin: of the claim, as ``gate.judge``.
        group: column that groups dependent examples, or "".
        token: bearer token of a server, or "".

    Raises:
        TficError: a model cannot be used, or they have no examples in common.
    """
    if claim is not None:
        for each in (a, b):
            if kind_of(each) == FOLDER and ModelFolder(each).is_cross_validation:
                raise of_cross_validation(each)
    models = read_models(a, b, settings, token=token)
    pairs = pair(models.a.predictions, models.b.predictions, group)
    gate = None
    if claim is not None:
        gate = judge(pairs, claim, metric=metric, slices=slices, slice_margin=slice_margin)
        for name, one in gate.labels.items():
            if name in models.is_without and needs_probabilities(pairs[name].label, one.metric):
                source = a if name in models.a.is_without else b
                raise ConfigError(
                    f"{one.metric} needs the probabilities of all classes, and {source} gives "
                    "predicted classes only. Use accuracy or macro_f1, or add a column per class."
                )
    notes = [*models.a.notes, *models.b.notes]
    if not group and any(one.groups is not None for one in pairs.values()):
        notes.append(f"intervals are over {FOUND_GROUPS}, not over images.")
    return Compared(
        a,
        b,
        {name: compare.comparison_of(one) for name, one in pairs.items()},
        gate,
        notes,
        pairs,
        models.images,
        models.a.is_without,
        models.b.is_without,
    )


def lines(found: Compared, *, show: int) -> list[str]:
    """The comparison as lines of text.

    Args:
        found: the comparison.
        show: changed examples to name of each kind.
    """
    text = [f"note: {note}" for note in found.notes]
    for name, one in found.comparisons.items():
        text += [f"note: {note}" for note in one.notes]
        tested = found.gate.labels.get(name) if found.gate is not None else None
        if tested is None:
            text.append(f"{name}: {one.verdict}, on {one.difference.count} examples")
            text.append(f"  {one.score_name:<20} A {one.a}, B {one.b}")
            text.append(f"  {'difference B - A':<20} {one.difference}, p = {one.p_value:.2g}")
        else:
            text += _gate_lines(name, tested)
        text.append(f"  {'flipped':<20} {len(one.gained)} better in B, {len(one.lost)} worse")
        for kind, names in (("better in B", one.gained), ("worse in B", one.lost)):
            text += [f"    {kind}: {uri}" for uri in names[:show]]
    if found.gate is not None:
        text.append(f"gate {'passed' if found.is_shown else 'not passed'}: {found.gate.claim}")
    return text


def _gate_lines(name: str, one: LabelGate) -> list[str]:
    """The gate of a label."""
    overall = one.overall
    head = f"{name}: {'shown' if overall.is_shown else 'not shown'}: {one.claim}"
    p_value = "" if np.isnan(overall.p_value) else f", {p_value_text(overall.p_value)}"
    text = [
        f"{head}, on {overall.difference.count} examples",
        f"  {one.metric:<20} A {overall.a:.3f}, B {overall.b:.3f}",
        f"  {'difference B - A':<20} {overall.difference} (90 % interval){p_value}",
    ]
    if overall.reason:
        text.append(f"  {'why not':<20} {overall.reason}")
    if power := power_text(overall, one.claim):
        text.append(f"  {'power':<20} {power}")
    if one.slices:
        num_shown = sum(each.is_shown for each in one.slices)
        text.append(
            f"  {'slices':<20} shown for {num_shown} of {len(one.slices)}: {one.slice_claim}"
        )
        text += [f"    {_slice_line(each)}" for each in one.slices]
    return text


def _slice_line(one: Tested) -> str:
    state = "shown" if one.is_shown else f"not shown: {one.reason}"
    return f"{one.name}, {one.difference.count} examples: {one.difference} {state}"


def write_page(path: str, found: Compared) -> None:
    """Write the page with the verdict and the changed predictions."""
    labels = [
        flips.label_content(
            pair_of,
            found.comparisons[name],
            found.gate.labels.get(name) if found.gate else None,
            a_has_probabilities=name not in found.a_is_without,
            b_has_probabilities=name not in found.b_is_without,
        )
        for name, pair_of in found.pairs.items()
    ]
    thumbnails = _Thumbnails(found.images)
    page = render(
        "flips.html",
        page=flips.Flips(found.a, found.b, found.gate, labels, found.notes),
        thumbnail=thumbnails.of,
    )
    files.write_bytes(path, page.encode())


class _Thumbnails:
    """Small images of examples as data URIs, within a limit of all together."""

    def __init__(self, images: Images | None) -> None:
        self._images, self._size = images, 0
        self._found: dict[int, str] = {}

    def of(self, example: int) -> str:
        """The image of an example by its index, or ""."""
        if example not in self._found:
            is_possible = self._images is not None and self._size < flips.MAX_BYTES
            self._found[example] = self._make(example) if is_possible else ""
            self._size += len(self._found[example])
        return self._found[example]

    def _make(self, example: int) -> str:
        assert self._images is not None
        [data] = self._images(np.array([example], np.int64))
        pixels = decode(data, max_pixels=_MAX_PIXELS)
        return flips.data_uri(seen_image(pixels, side=_SIDE))
