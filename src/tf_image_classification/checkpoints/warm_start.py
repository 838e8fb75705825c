"""Warm start: loads the weights of another model by name and shape, with a report.

report = warm_start(model, "pretrained/model.ckpt")
print(report.text())
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tf_image_classification.checkpoints.adapted_layers import refresh
from tf_image_classification.checkpoints.class_rows import RowChange, classes_of, row_changes
from tf_image_classification.checkpoints.layer_names import by_layer
from tf_image_classification.checkpoints.name_maps import (
    SEED_STATE,
    Change,
    OldName,
    old_names,
    with_block_numbers,
)
from tf_image_classification.checkpoints.weight_files import Values, WeightFile, read_weights
from tf_image_classification.errors import CheckpointError, did_you_mean
from tf_image_classification.labels import LabelSchema

_MAX_SHOWN = 4
_MAX_OUTPUTS = 3  # layers
# Variables beside the body of a network: outputs, and the state of optimizers and metrics.
_NOT_BODY = re.compile(
    r"(?i)logits|(^|/)_?fc\d*(/|$)|^aux|predictions|(^|/)(head|classifier|top|outputs?)(/|$)"
    r"|global_step|ExponentialMovingAverage|momentum|velocity|RMSProp|Adam|Adagrad|optimizer"
    r"|(^|/)(iterations?|learning_rate|save_counter|total|count)(_\d+)?$|StateVar|seed_generator"
)


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """The variables that a warm start loaded, and those that it did not.

    Attributes:
        source: the checkpoint.
        loaded: model variables that were loaded.
        initialised: model variables that are not in the file.
        excluded: model variables that the scopes left out.
        mismatched: model variables whose shape differs, with both shapes.
        unused: variables of the file that were not used.
        classes: for each label with other classes in the file, the output rows loaded by name.
    """

    source: str
    loaded: tuple[str, ...]
    initialised: tuple[str, ...]
    excluded: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line with the counts."""
        counts = [f"{len(self.loaded)} variables loaded"]
        counts += [f"{len(names)} {kind}" for kind, names in self._not_loaded().items() if names]
        return f"warm start from {self.source}: {', '.join(counts)}"

    def text(self) -> str:
        """The summary, and below it the first variables of each kind that were not loaded."""
        lines = [self.summary(), *(f"  {text}" for text in self.classes)]
        for kind, names in self._not_loaded().items():
            if names:
                more = len(names) - _MAX_SHOWN
                shown = ", ".join(names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
                lines.append(f"  {kind}: {shown}")
        return "\n".join(lines)

    def _not_loaded(self) -> dict[str, tuple[str, ...]]:
        names = {line: line.partition(":")[0] for line in self.mismatched}
        outputs = {line for line, name in names.items() if name.startswith("logits")}
        return {
            "left at initialisation": self.initialised,
            "excluded": self.excluded,
            "new for these classes": tuple(n for line, n in names.items() if line in outputs),
            "of another shape": tuple(line for line in names if line not in outputs),
            "unused in the file": self.unused,
        }


def warm_start(
    model: keras.Model,
    path: str,
    *,
    restore_scopes: Sequence[str] = (),
    exclude_scopes: Sequence[str] = (),
    with_averages: bool = False,
    schema: LabelSchema | None = None,
    image_shape: Sequence[int] | None = None,
) -> WarmStartReport:
    """Set the variables of a model to those of a checkpoint, where name and shape agree.

    A variable ``net/conv/kernel`` is loaded from that name in the file, from ``conv/kernel`` when
    the file lacks the model's own name in front, or from its TF-Slim name (``name_maps``). Scopes
    may be given in either name. Moving averages in a run's own checkpoints are preferred to the raw
    weights. Where the weights come with class names, as in a model folder, the rows of the output
    are loaded by class name.

    Args:
        model: the model, built.
        path: as ``read_weights`` takes it.
        restore_scopes: load only variables whose names begin with one of these; empty: all.
        exclude_scopes: do not load variables whose names begin with one of these.
        with_averages: as ``read_weights``.
        schema: the model's labels; None: the rows of the output are loaded by number.
        image_shape: of the model's images, for a model without an input shape.

    Raises:
        CheckpointError: the file is missing or unreadable, nothing in it fits, or it is of another
            network.
    """
    file = read_weights(path, model, with_averages=with_averages)
    changes = {}
    if schema is not None:
        is_whole = not (restore_scopes or exclude_scopes)
        theirs = classes_of(path)
        changes = row_changes(model, schema, theirs, image_shape, must_be_found=is_whole)
    return _load(model, file, path, restore_scopes, exclude_scopes, changes)


def load_values(
    model: keras.Model,
    values: Values,
    source: str,
    *,
    restore_scopes: Sequence[str] = (),
    exclude_scopes: Sequence[str] = (),
) -> WarmStartReport:
    """As ``warm_start``, from arrays by name; ``source`` names them in the report.

    Raises:
        CheckpointError: as ``warm_start``.
    """
    return _load(model, WeightFile(values), source, restore_scopes, exclude_scopes)


def _load(
    model: keras.Model,
    file: WeightFile,
    source: str,
    restore_scopes: Sequence[str],
    exclude_scopes: Sequence[str],
    changes: Mapping[str, RowChange] | None = None,
) -> WarmStartReport:
    outcomes: dict[str, list[str]] = {
        kind: [] for kind in ("loaded", "initialised", "excluded", "mismatched")
    }
    used: set[str] = set()
    sentences: dict[str, str] = {}
    left_out: set[str] = set()
    old = old_names(v.path for v in model.variables)
    has_old_names = False
    values = _with_our_root(model, file.values, old)
    values = with_block_numbers(values, old)
    of_layer = by_layer(values, model) if file.has_keras_names else {}
    _refuse_unknown_scopes(model, old, restore_scopes, exclude_scopes)
    for variable in (v for v in model.variables if not v.path.endswith(SEED_STATE)):
        path, shape = str(variable.path), tuple(variable.shape)
        names = _names(model, variable, old)
        found = of_layer.get(path) or next((name for name in names if name in values), None)
        is_wanted = not restore_scopes or _begins(names, restore_scopes)
        if not is_wanted or _begins(names, exclude_scopes):
            outcomes["excluded"].append(path)
            left_out |= {found} if found else set()
            continue
        if found is None:
            outcomes["initialised"].append(path)
            continue
        used.add(found)
        value = _fitted(values[found], shape, names.get(found))
        change = (changes or {}).get(path)
        if change is not None:
            rows = _fitted(values[found], (*shape[:-1], change.num_theirs), names.get(found))
            if change.fits(rows, shape):
                sentences[change.label] = change.text
                variable.assign(change.apply(variable.numpy(), rows))
                outcomes["loaded" if change.has_common else "initialised"].append(path)
                continue
        if value.shape != shape:
            text = f"{path}: {values[found].shape} in the file, {shape} in the model"
            outcomes["mismatched"].append(text)
            continue
        variable.assign(value)
        outcomes["loaded"].append(path)
        has_old_names |= any(found == name for name, _ in old.get(path, ()))
    report = WarmStartReport(
        source,
        **{kind: tuple(paths) for kind, paths in outcomes.items()},
        unused=tuple(sorted(set(values) - used)),
        classes=tuple(sentences.values()),
    )
    if not report.loaded:
        raise CheckpointError(
            f"{report.summary()}. Nothing fits, so this would be a training from scratch. "
            + _why_nothing_fits(report, values)
        )
    refresh(model)
    if (file.is_whole or has_old_names) and not restore_scopes:
        _refuse_other_network(report, file, values, left_out, model)
    return report


def _refuse_unknown_scopes(
    model: keras.Model,
    old: Mapping[str, Sequence[OldName]],
    restore_scopes: Sequence[str],
    exclude_scopes: Sequence[str],
) -> None:
    """Check that each scope matches a variable.

    Raises:
        CheckpointError: no variable's name begins with one of them; suggests similar names.
    """
    known = {name for variable in model.variables for name in _names(model, variable, old)}
    for option, scopes in (("restore", restore_scopes), ("exclude", exclude_scopes)):
        for scope in scopes:
            if not any(name.startswith(scope) for name in known):
                layers = {name.rpartition("/")[0] for name in known}
                raise CheckpointError(
                    f"checkpoint_{option}_scopes: no variable's name begins with {scope!r}, so it "
                    f"has no effect. {textwrap.shorten(did_you_mean(scope, layers), 300)}"
                )


def _refuse_other_network(
    report: WarmStartReport,
    file: WeightFile,
    values: Values,
    left_out: Collection[str],
    model: keras.Model,
) -> None:
    """Check that the whole body of the file was used; outputs may differ.

    Raises:
        CheckpointError: the file is of another network.
    """
    unused = set(report.unused)
    without_place = [name for name in report.unused if name not in left_out]
    if file.is_in_order:
        without_place = _of_body(without_place, values, [n for n in values if n not in unused])
    else:
        without_place = [name for name in without_place if not _NOT_BODY.search(name)]
        if file.is_whole and _could_be_outputs({name: values[name] for name in without_place}):
            without_place = []
    paths = [str(v.path) for v in model.variables]
    misfits = {text.partition(": ")[0]: text for text in report.mismatched}
    of_another_shape = _of_body(list(misfits), dict.fromkeys(paths), report.loaded)
    found = without_place or [misfits[path] for path in of_another_shape]
    if not found:
        return
    problem = "have no place in the model" if without_place else "have another shape"
    raise CheckpointError(
        f"{report.summary()}. {len(found)} variables of the file's body, e.g. {found[0]}, "
        f"{problem}, so the file is of another network. Choose the network that it was made with; "
        "or, if only a part is wanted, name that with --checkpoint_restore_scopes, or leave out "
        "the rest with --checkpoint_exclude_scopes."
    )


def _could_be_outputs(values: Values) -> bool:
    """Whether variables of an unordered file are those of a few linear layers."""
    layers = {name.rpartition("/")[0] for name in values}
    return len(layers) <= _MAX_OUTPUTS and all(value.ndim <= 2 for value in values.values())


def _of_body(
    names: Sequence[str], in_order: Mapping[str, Any], loaded: Collection[str]
) -> list[str]:
    """The names that belong neither to outputs nor to an optimizer.

    Outputs are recognised by their names, or by their place behind all loaded variables in the
    order of the file or the model.
    """
    places = {name: place for place, name in enumerate(in_order)}
    last = max((places[name] for name in loaded if name in places), default=-1)
    return [n for n in names if places.get(n, -1) < last and not _NOT_BODY.search(n)]


def _fitted(
    value: npt.NDArray[Any], shape: tuple[int, ...], change: Change | None
) -> npt.NDArray[Any]:
    """A file's value converted for the model; a 1x1 convolution may become a matrix."""
    if change is not None:
        value = change(value, shape)
    is_matrix = value.ndim == 4 and len(shape) == 2 and value.shape[-1] == shape[-1]
    return value.reshape(shape) if is_matrix and value.size == np.prod(shape) else value


def _with_our_root(
    model: keras.Model, values: Values, old: Mapping[str, Sequence[OldName]]
) -> Values:
    """The values without the name of another model in front, when all have one."""
    ours = {name for v in model.variables for name in _names(model, v, old)}
    if ours & set(values):
        return values
    roots = {name.partition("/")[0] for name in values if "/" in name}
    stripped = {root: {n.removeprefix(f"{root}/"): v for n, v in values.items()} for root in roots}
    fits = {root: len(ours & set(names)) for root, names in stripped.items()}
    best = max(fits, key=lambda root: fits[root], default="")
    return stripped[best] if fits.get(best) else values


def _why_nothing_fits(report: WarmStartReport, values: Mapping[str, npt.NDArray[Any]]) -> str:
    if report.mismatched:
        return f"Shapes differ: {'; '.join(report.mismatched[:3])}."
    if report.initialised:
        wanted = report.initialised[0]
        return (
            f"The model's {wanted} is not in the file. {did_you_mean(wanted, values)} TF-Slim's "
            "checkpoints fit the networks of tf_image_classification.backbones."
        )
    return "The scopes leave out every variable; correct checkpoint_restore_scopes or _exclude_."


def _names(
    model: keras.Model, variable: keras.Variable, old: Mapping[str, Sequence[OldName]]
) -> dict[str, Change | None]:
    """The possible names of a model variable in a file, with the conversion of its value."""
    path = str(variable.path)
    names: dict[str, Change | None] = {path: None, path.removeprefix(f"{model.name}/"): None}
    for name, change in old.get(path, ()):
        names.setdefault(name, change)  # of two maps with the same name, the first counts
    return names


def _begins(names: Mapping[str, Any], scopes: Sequence[str]) -> bool:
    return any(name.startswith(scope) for name in names for scope in scopes)
