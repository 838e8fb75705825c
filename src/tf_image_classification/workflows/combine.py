"""``tfic combine``: several trained models as one, by their weights or by their predictions.

Soup: one network with the mean of the members' weights (Wortsman et al., arXiv 2203.05482,
uniform). Greedy soup: members are added, best first, while the evaluation does not get worse (the
same paper, recipe 1). Ensemble: all members compute, and their probabilities are averaged.

The new model folder has the run manifest of the first member and names all of them. It is
evaluated, exported and served like any other; it has no training that could be resumed.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.checkpoints.store import CheckpointStore, Saved
from tf_image_classification.config import FULL_RANGE, Settings, make_settings, read_pixel_range
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import CheckpointError, ConfigError, TficError, brief
from tf_image_classification.estimator_specs import EstimatorSpec, own_metrics
from tf_image_classification.export.ensemble import ensemble_of
from tf_image_classification.export.saved_model import ExportedModel, Servable, export_saved_model
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files, screen
from tf_image_classification.training.state import model_variables
from tf_image_classification.workflows import light_file
from tf_image_classification.workflows.evaluate import ExportedSpec, inherited
from tf_image_classification.workflows.export_saved_model import servable
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import RunContext, make_context
from tf_image_classification.workflows.setup.default_hooks import best_metric
from tf_image_classification.workflows.setup.evaluator import make_evaluate, regularisation_of
from tf_image_classification.workflows.setup.losses import make_losses
from tf_image_classification.workflows.setup.model import build_model, make_forward
from tf_image_classification.workflows.setup.weights import assign_weights, newest_weights

log = logging.getLogger("tf_image_classification")

SOUP, GREEDY, ENSEMBLE = HOWS = ("soup", "greedy", "ensemble")

_OF_PIXELS = ("image_size", "eval_crop", "eval_stretch", "png16_range", "test_time_augmentation")
_OF_LAYERS = ("backbone", "pixel_scaling", "precision")
_SIZES = (
    (97, 64),
    (50, 120),
    (224, 224),
)  # pixels, of the images that preprocessings must agree on


@dataclasses.dataclass(frozen=True)
class Member:
    """A model to combine.

    Attributes:
        folder: its model folder.
        manifest: of its run.
    """

    folder: ModelFolder
    manifest: RunManifest


@dataclasses.dataclass(frozen=True)
class Combined:
    """What was combined.

    Attributes:
        model_dir: the new model folder.
        how: one of ``HOWS``.
        members: the folders of the models in it.
        scores: of a greedy soup, by folder, the metric of its model on the evaluation set.
        metric: the name of that metric, or "".
        score: that metric of the soup, or None.
        notes: sentences about the members.
    """

    model_dir: str
    how: str
    members: tuple[str, ...]
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metric: str = ""
    score: float | None = None
    notes: tuple[str, ...] = ()


def combine(
    member_dirs: Sequence[str],
    settings: Settings,
    how: str = SOUP,
    spec: EstimatorSpec | None = None,
) -> Combined:
    """Combine the models of several folders into a new model folder.

    Args:
        member_dirs: two or more model folders; the first one lends its run manifest.
        settings: ``model_dir``, the new folder, and ``eval_metadata``, for a greedy soup to choose
            on; without it the evaluation set of the first member.
        how: one of ``HOWS``.
        spec: of members with a spec of their own, for a soup.

    Raises:
        ConfigError: fewer than two members; the members differ in labels, preprocessing or, for a
            soup, in the network.
        CheckpointError: a folder is not a model folder, or lacks the weights.
        DataError: a folder has no exported model, or the evaluation set cannot be read.
    """
    members = _members(member_dirs, settings.run.model_dir)
    first = members[0]
    _check_labels(members)
    of_first = _settings_of(first, settings)
    folder = ModelFolder(settings.run.model_dir)
    notes = _notes_on_data(members)
    if how == ENSEMBLE:
        used, saved, found = members, None, Combined(folder.path, how, (), notes=notes)
        parts, step = _ensemble(members)
    else:
        _check_networks(members)
        notes = (*notes, *_notes_on_weights(members))
        spec = spec or _spec_of(first, of_first)
        kept = [newest_weights(member.folder)[0] for member in members]
        model, context, data = _built(spec, of_first, first, with_data=how == GREEDY)
        for one in kept:
            assign_weights(model, one)  # an error names the checkpoint that does not fit
        found = Combined(folder.path, how, (), notes=notes)
        chosen = list(range(len(members)))
        if how == GREEDY:
            chosen, found = _greedy(members, kept, model, context, data, found)
        used = [members[i] for i in chosen]
        weights = mean_weights([_weights(model, kept[i]) for i in chosen])
        saved = Saved(max(kept[i].step for i in chosen), weights, {})
        assign_weights(model, saved)
        parts, step = servable(spec, of_first, first.manifest.schema, model), saved.step
    found = dataclasses.replace(found, members=tuple(m.folder.path for m in used))
    networks = [_network(member) for member in used]
    _write(folder, first, found, networks, parts, step, saved)
    screen.say(f"exported:      {folder.saved_model}", is_result=True)
    if line := _light_file(folder, of_first):
        screen.say(line)
    return found


def _members(member_dirs: Sequence[str], model_dir: str) -> list[Member]:
    """The members, in the order in which they were given."""
    paths = [path.rstrip("/") or path for path in member_dirs]
    if len(paths) < 2:
        raise ConfigError(
            f"combine needs two or more model folders, found {len(paths)}: {', '.join(paths)}. "
            "Write, e.g., tfic combine runs/a runs/b --model_dir runs/both."
        )
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise ConfigError(f"{', '.join(repeated)} is given twice. Name each model folder once.")
    members = [Member(ModelFolder(path), ModelFolder(path).known_manifest()) for path in paths]
    if files.exists(model_dir) and (not files.is_folder(model_dir) or files.list_folder(model_dir)):
        raise ConfigError(
            f"model_dir {model_dir} exists already, and combine writes a new model folder. Choose "
            "another --model_dir, or remove it."
        )
    return members


def _settings_of(member: Member, settings: Settings) -> Settings:
    """The settings of a member's run, with the evaluation set that was given."""
    given = {"model_dir": member.folder.path, "progress": False}
    for name in ("eval_metadata", "cache_dir"):
        if settings.origin(name) != "default":
            given[name] = settings.values()[name]
    return inherited(make_settings(given), member.manifest)


def _check_labels(members: Sequence[Member]) -> None:
    first, *others = members
    for other in others:
        here, there = first.manifest.schema, other.manifest.schema
        if here == there:
            continue
        if here.names == there.names:
            differing = next(n for n in here.names if here[n] != there[n])
            found = [_described(schema[differing]) for schema in (here, there)]
        else:
            found = [", ".join(schema.names) for schema in (here, there)]
        raise ConfigError(
            f"The labels differ: {found[0]} in {first.folder.path}, {found[1]} in "
            f"{other.folder.path}. Combine models of the same labels, with the same classes in the "
            "same order."
        )


def _described(label: Any) -> str:
    names = ", ".join(label.named_classes()[:6])
    return f"{label.name}: {label.describe()}" + (f" ({names})" if names else "")


def _check_same_settings(members: Sequence[Member], names: Sequence[str], advice: str) -> None:
    first, *others = members
    for other in others:
        for name in names:
            here, there = (m.manifest.settings.get(name) for m in (first, other))
            if here != there and None not in (here, there):
                raise ConfigError(
                    f"{name} differs: {here} in {first.folder.path}, {there} in "
                    f"{other.folder.path}. {advice}"
                )


def _check_networks(members: Sequence[Member]) -> None:
    """A soup is one network: the same spec, layers and preprocessing."""
    first, *others = members
    advice = "Use --how ensemble, or members of one network."
    for other in others:
        if first.manifest.spec.rpartition(":")[2] != other.manifest.spec.rpartition(":")[2]:
            raise ConfigError(
                f"The networks differ: {_network(first)} in {first.folder.path}, "
                f"{_network(other)} in {other.folder.path}. {advice}"
            )
    _check_same_settings(members, _OF_LAYERS, advice)
    _check_same_settings(
        members, _OF_PIXELS, "Combine models that were trained with the same preprocessing."
    )


def _ensemble(members: Sequence[Member]) -> tuple[Servable, int]:
    """An ensemble and its newest member's step, after a check that all see the same pixels."""
    _check_same_settings(
        members,
        ("image_size", "png16_range", "precision"),
        "An ensemble prepares an image once, so train its members with the same value.",
    )
    exported = [ExportedModel(member.folder.saved_model).load() for member in members]
    first = exported[0]
    for member, other in zip(members[1:], exported[1:], strict=True):
        if other.image_spec != first.image_spec or not _see_the_same(first, other):
            raise ConfigError(
                f"{members[0].folder.path} and {member.folder.path} prepare images differently, "
                "and an ensemble prepares each once. Compare eval_crop, eval_stretch, image_size "
                "and pixel_scaling in their run.json, and train one of them again."
            )
    settings = members[0].manifest.settings
    parts = ensemble_of(
        exported,
        members[0].manifest.schema,
        max_pixels=min(int(m.manifest.settings["max_image_pixels"]) for m in members),
        png16_range=read_pixel_range(settings.get("png16_range", "full")) or FULL_RANGE,
    )
    return parts, max(one.step for one in exported)


def _see_the_same(a: ExportedModel, b: ExportedModel) -> bool:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in _SIZES]
    return all(
        np.allclose(a.preproc(image, 0, 0), b.preproc(image, 0, 0), atol=1e-4)
        for image in map(tf.constant, images)
    )


def _notes_on_data(members: Sequence[Member]) -> tuple[str, ...]:
    first, *others = members
    differ = [m.folder.path for m in others if m.manifest.train_data != first.manifest.train_data]
    if not differ:
        return ()
    return (
        f"{', '.join(differ)} had another training set than {first.folder.path}: evaluate on "
        "images that no member was trained on",
    )


def _notes_on_weights(members: Sequence[Member]) -> tuple[str, ...]:
    starts = {str(m.manifest.settings.get("checkpoint_path", "")) for m in members}
    if len(starts) == 1 and members[0].manifest.has_pretrained_weights:
        return ()
    return (
        "the members did not start from the same pretrained weights, and the mean of such weights "
        "is usually a poor model: compare it with its members, or use --how ensemble",
    )


def _spec_of(member: Member, settings: Settings) -> EstimatorSpec:
    """The built-in spec of a member's run, with its preprocessing."""
    if not member.manifest.is_of_backbone:
        raise ConfigError(
            f"A soup builds the network, which the spec {member.manifest.spec} of "
            f"{member.folder.path} describes. Give it: --spec file.py:Class."
        )
    return BackboneSpec(member.manifest.schema.labels, settings.backbone_spec)


def _built(
    spec: EstimatorSpec, settings: Settings, member: Member, *, with_data: bool
) -> tuple[keras.Model, RunContext, run_data.Data | None]:
    """The network without its weights, its context, and the evaluation set."""
    context = make_context(spec, settings, Workers(make_strategy("one_device")))
    data = None
    if with_data:
        if not settings.data.eval_metadata:
            raise ConfigError("A greedy soup needs an evaluation set. Give --eval_metadata.")
        data = run_data.read_data(context, member.manifest.schema, with_training=False)
    size = settings.data.image_size
    return build_model(context, (size, size, 3)), context, data


def _weights(model: keras.Model, saved: Saved) -> dict[str, npt.NDArray[Any]]:
    """The evaluated weights of a checkpoint: moving averages where it has them."""
    assign_weights(model, saved)
    return {f"model/{v.path}": np.asarray(v.numpy()) for v in model_variables(model)}


def mean_weights(
    members: Sequence[Mapping[str, npt.NDArray[Any]]],
) -> dict[str, npt.NDArray[Any]]:
    """The mean of each variable, in float64; variables that are no real numbers are the first's.

    Statistics of batch normalisation are averaged like weights.
    """
    return {
        name: np.mean([member[name] for member in members], axis=0, dtype=np.float64).astype(
            value.dtype
        )
        if np.issubdtype(value.dtype, np.floating)
        else value
        for name, value in members[0].items()
    }


def _greedy(
    members: Sequence[Member],
    kept: Sequence[Saved],
    model: keras.Model,
    context: RunContext,
    data: run_data.Data | None,
    found: Combined,
) -> tuple[list[int], Combined]:
    """The numbers of the members in a greedy soup, and its scores."""
    assert data is not None and data.evaluation is not None
    name, higher = best_metric(context.settings)
    weights = [_weights(model, saved) for saved in kept]
    evaluate = make_evaluate(
        DistributedBatches(
            data.evaluation,
            context.workers.strategy,
            is_training=False,
            skip_bad_images=context.settings.data.on_bad_image == "skip",
        ),
        context.workers,
        make_forward(model, data.schema, context.settings),
        data.schema,
        metric_fn=functools.partial(own_metrics, context.spec, data.schema),
        loss_fn=make_losses(context, data.schema),
        regularisation=lambda: regularisation_of(model),
        also=(context.settings.evaluation.best_metric,),
    )

    def score(numbers: Sequence[int]) -> float:
        mean = mean_weights([weights[i] for i in numbers])
        assign_weights(model, Saved(0, mean, {}))
        evaluation = evaluate()
        assert evaluation is not None
        return float(evaluation.metrics[name])

    with screen.working(f"evaluating {len(members)} members"):
        scores = [score([i]) for i in range(len(members))]
        chosen, best = greedy_choice(scores, score, higher=higher)
    by_folder = {m.folder.path: value for m, value in zip(members, scores, strict=True)}
    return chosen, dataclasses.replace(found, scores=by_folder, metric=name, score=best)


def greedy_choice(
    scores: Sequence[float], score: Callable[[Sequence[int]], float], *, higher: bool
) -> tuple[list[int], float]:
    """The members of a greedy soup, best first, and its score.

    Args:
        scores: of each member alone.
        score: of the soup of some members.
        higher: whether a higher score is better.

    Example:
        >>> greedy_choice([0.7, 0.9, 0.8], lambda members: 0.9 + (0 in members), higher=True)
        ([1, 2, 0], 1.9)
    """
    sign = 1.0 if higher else -1.0
    best_first = sorted(range(len(scores)), key=lambda i: -sign * scores[i])
    chosen, best = best_first[:1], scores[best_first[0]]
    for number in best_first[1:]:
        value = score([*chosen, number])
        if sign * value >= sign * best:
            chosen, best = [*chosen, number], value
    return chosen, best


def _network(member: Member) -> str:
    given = member.manifest
    return str(
        given.settings["backbone"] if given.is_of_backbone else given.spec.rpartition(":")[2]
    )


def _write(
    folder: ModelFolder,
    first: Member,
    found: Combined,
    networks: Sequence[str],
    parts: Servable,
    step: int,
    saved: Saved | None,
) -> None:
    """Write the folder, its manifest last."""
    settings = {**first.manifest.settings, "model_dir": folder.path}
    combined: dict[str, Any] = {
        "how": found.how,
        "members": list(found.members),
        "networks": list(networks),
    }
    if found.metric:
        combined |= {"metric": found.metric, "scores": dict(found.scores), "score": found.score}
    files.make_folder(folder.path)
    with screen.working("exporting"):
        if saved is not None:
            CheckpointStore(folder.best).save(saved.step, saved.tensors, saved.notes)
        try:
            export_saved_model(folder.saved_model, parts, step=step)
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise CheckpointError(
                f"The combined model could not be written to {folder.saved_model}: "
                f"{brief(error)}. Remove {folder.path} and start the same command again."
            ) from error
    for path in (first.folder.held_out, first.folder.data_counts):
        if files.exists(path):
            name = path.rstrip("/").rpartition("/")[2]
            files.write_json(files.join(folder.path, name), files.read_json(path))
    folder.write_manifest(dataclasses.replace(first.manifest, settings=settings, combined=combined))


def _light_file(folder: ModelFolder, settings: Settings) -> str:
    """Write the file for prediction without TensorFlow, where the examples to verify it are."""
    if not settings.data.eval_metadata:
        return ""
    manifest = folder.known_manifest()
    spec = ExportedSpec(ExportedModel(folder.saved_model).load(), manifest.schema)
    try:
        data = run_data.read_data(
            make_context(spec, settings), manifest.schema, with_training=False
        )
    except TficError as error:
        log.warning("The light file is not written: %s", error)
        return ""
    return light_file.write_light_file(folder, manifest, data.evaluation)
