"""Head initialisation: the output layers are fitted to a network's features before fine-tuning.

Kumar et al. (arXiv 2202.10054) show why: outputs that start at random spoil the features that a
warm start has brought. The features of the training images are computed once and kept.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.batches import outputs_of
from tf_image_classification.dataset.pipeline.bad_images import (
    BadImage,
    bad_image_error,
    bad_images_among,
)
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.protocols import ExampleReader
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.estimator_specs import source_digest
from tf_image_classification.evaluation.probe import floored_deviation
from tf_image_classification.features.backbone import backbone_text
from tf_image_classification.features.compute import Features, compute_features
from tf_image_classification.features.network import (
    Content,
    FeatureNetwork,
    behaviour_of,
    identity_of,
    preparation,
    preprocessing_text,
    structure_of,
)
from tf_image_classification.fused_batch_norm import fused_batch_norm
from tf_image_classification.hooks import Hook
from tf_image_classification.labels import Label
from tf_image_classification.layer_calls import watched_layers
from tf_image_classification.system import screen
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.run_data import Data

_OUTPUTS = "logits"
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # inverse, of the regularisation of standardised features
_FOLDS = 3
_READ_AT_ONCE = 64  # images
_MOST_EXAMPLES_TO_CHOOSE = 5_000


def fit_outputs(context: RunContext, data: Data, model: keras.Model) -> str:
    """Fit the output layers of a model by regression on its features; returns a summary.

    The first worker computes and fits; all take its numbers, so that they start alike. Class labels
    get a multinomial logistic regression whose strength is chosen by cross-validation, several
    classes and thresholds between ordered ones a logistic regression each, real values a ridge
    regression; missing labels are left out.

    Args:
        context: the run; images are preprocessed as for evaluation, features are cached.
        data: the examples.
        model: the model with the weights of its warm start.

    Raises:
        ConfigError: the model has no linear outputs called ``logits`` on one set of features, or
            the examples cannot be read by number.
    """
    workers = context.workers
    layers = output_layers(model, data.schema.names)
    if data.train is None or data.train.table is None:
        raise ConfigError("head_phase needs examples by number: use input_mode indexed.")
    weights = [np.zeros(v.shape) for layer in layers.values() for v in layer.weights]
    text = ""
    if workers.is_writer:
        features, usable = _features(context, data, model, layers)
        weights, scores = [], []
        for label in data.schema:
            column = data.train.table.columns[label.name]
            known = usable[column.mask[usable]]
            values = column.values[known]
            kernel, bias, score = _regression(label, features.values[known], values)
            weights += [kernel, bias]
            scores.append(f"{label.name} {score}")
        text = (
            f"outputs fitted to the features of {len(usable)} images: {', '.join(scores)}\n"
            f"{features.note()}"
        )
    flat = np.concatenate([value.ravel() for value in weights])
    flat = np.asarray(workers.exchange(flat.tolist()))[0] if workers.count > 1 else flat
    start = 0
    for variable in (v for layer in layers.values() for v in layer.weights):
        size = int(np.prod(variable.shape))
        variable.assign(flat[start : start + size].reshape(variable.shape).astype(np.float32))
        start += size
    return text


def output_layers(model: keras.Model, names: tuple[str, ...]) -> dict[str, keras.layers.Dense]:
    """The linear layers that give each label's logits.

    Raises:
        ConfigError: there are none of the expected names.
    """
    wanted = {name: f"{_OUTPUTS}_{name}" if len(names) > 1 else _OUTPUTS for name in names}
    by_name = {layer.name: layer for layer in model.layers}
    found: dict[str, Any] = {name: by_name.get(layer) for name, layer in wanted.items()}
    for name, layer in found.items():
        if not isinstance(layer, keras.layers.Dense) or not layer.use_bias:
            raise ConfigError(
                f"head_phase needs a keras.layers.Dense called {wanted[name]!r} for label "
                f"{name!r}. Name the model's last layer so, or leave head_phase out."
            )
    return found


def _features(
    context: RunContext, data: Data, model: keras.Model, layers: dict[str, keras.layers.Dense]
) -> tuple[Features, npt.NDArray[np.int64]]:
    """The features of all training images, and the numbers of those that can be used."""
    pipeline = run_data.without_augmentation(data, context.spec)
    table = pipeline.table
    assert table is not None
    bad: dict[int, BadImage] = {}

    def refuse(number: int, content: Content, error: Exception) -> None:
        limit = context.settings.data.max_image_pixels
        assert isinstance(content, bytes)
        found = bad_images_among([(number, content)], table.locate, max_pixels=limit)
        if not found:
            raise error
        if context.settings.data.on_bad_image != "skip":
            raise bad_image_error(found) from error
        bad[number] = found[0]
        if len(bad) == table.num_examples:
            raise DataError("Not one image can be decoded; see bad_images.jsonl.") from error

    is_shown = context.settings.run.progress
    with screen.progress("features", "img", is_shown=is_shown) as show:
        found = compute_features(
            _network(context, pipeline.preprocessor, model, layers),
            _encoded(pipeline.reader.in_file_order),
            table.num_examples,
            cache_dir=context.cache_dir,
            on_images=show,
            on_problem=refuse,
        )
    usable = np.array([i for i in range(table.num_examples) if i not in bad], np.int64)
    return found, usable


def _network(
    context: RunContext,
    preprocessor: ImagePreprocessor,
    model: keras.Model,
    layers: dict[str, keras.layers.Dense],
) -> FeatureNetwork:
    """The model below its outputs, with the preprocessing of an evaluation."""

    def features(images: tf.Tensor) -> tf.Tensor:
        found = features_of(model, layers, tf.cast(images, tf.float32))
        return tf.cast(found, tf.float32)  # NumPy stores no bfloat16

    prepare, key_of = preparation(preprocessor)
    forward = tf.function(unconverted(features))
    of_outputs = {id(variable) for layer in layers.values() for variable in layer.variables}
    spec, preproc, size = context.spec, preprocessor.preproc, preprocessor.image_size
    about = {"network": type(spec).__name__, "image_size": str(size)}
    if type(spec) is BackboneSpec and type(preproc) is Preprocessing:  # shared with tfic inspect
        about["network"] = spec.settings.backbone
        network: object = backbone_text(spec.settings.backbone, spec.settings.pixel_scaling)
        preprocessing: object = preprocessing_text(preproc, size)
    else:
        own = {name: value for name, value in vars(spec).items() if not isinstance(value, Hook)}
        network = (source_digest(spec), own, structure_of(model))
        preprocessing = (size, behaviour_of(prepare, forward))
    return FeatureNetwork(
        prepare=prepare,
        forward=forward,
        identity=identity_of(
            network=network,
            weights=[each for each in model.weights if id(each) not in of_outputs],
            preprocessing=preprocessing,
            precision=context.settings.model.precision,
        ),
        about=about,
        key_of=key_of,
    )


def _encoded(reader: ExampleReader) -> Iterator[tuple[int, bytes]]:
    """Number and encoded image of each example; some are read while others are computed.

    Raises:
        DataError: an image can no longer be read; names it.
    """
    starts = range(0, reader.source.num_examples, _READ_AT_ONCE)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(_read, reader, 0)
        for start in starts:
            now = ahead
            ahead = pool.submit(_read, reader, start + _READ_AT_ONCE)
            yield from enumerate(now.result(), start)


def _read(reader: ExampleReader, start: int) -> list[bytes]:
    table = reader.table
    assert table is not None
    numbers = np.arange(start, min(start + _READ_AT_ONCE, table.num_examples))
    if not len(numbers):
        return []
    try:
        found: list[bytes] = table.fetch(tf.constant(numbers)).numpy().tolist()
        return found
    except tf.errors.OpError:  # read one by one, which names the image
        return [data for _, data in reader.encoded_batch(start, len(numbers))]


def features_of(
    model: keras.Model, layers: dict[str, keras.layers.Dense], images: tf.Tensor
) -> tf.Tensor:
    """The input features [B, D] of the output layers, for images [B, H, W, C]; traced.

    Raises:
        ConfigError: each takes something else.
    """
    inputs: dict[int, tf.Tensor] = {}
    watch = watched_layers(model, lambda layer, taken, _: inputs.update({id(layer): taken}))
    with fused_batch_norm(model, training=False), watch:
        outputs_of(model, images, training=False)
    taken = [inputs[id(layer)] for layer in layers.values()]
    sources = {(one.op.inputs[0] if one.op.type == "Cast" else one).ref() for one in taken}
    if len(sources) > 1:
        raise ConfigError(
            "The outputs of this model have different features. Expected outputs that share them."
        )
    return taken[0]


def _regression(
    label: Label, features: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    """Kernel [D, outputs], bias [outputs] and a description of the fit."""
    mean, deviation = features.mean(axis=0), floored_deviation(features)
    scaled = ((features - mean) / deviation).astype(np.float64)
    if label.has_softmax:
        kernel, bias, score = _classes(label, scaled, values)
    elif label.has_classes:
        kernel, bias, score = _decisions(label, scaled, values)
    else:
        kernel, bias, score = _real_values(scaled, values)
    kernel = kernel / deviation[:, None]
    return kernel, bias - mean @ kernel, score


def _classes(
    label: Label, features: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    from sklearn.linear_model import LogisticRegression  # late: it takes a second
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    present, counts = np.unique(values, return_counts=True)
    kernel = np.zeros([features.shape[1], label.depth])
    bias = np.full(label.depth, np.log(0.5 / len(values)))  # of classes that have no example
    if len(present) == 1:
        bias[present[0]] = 0.0
        return kernel, bias, "has one class only"

    def model(strength: float) -> Any:
        return LogisticRegression(C=strength, max_iter=500)

    strength, score = _STRENGTHS[1], "fitted"
    if counts.min() >= _FOLDS and len(values) <= _MOST_EXAMPLES_TO_CHOOSE:
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
        scores = [
            float(cross_val_score(model(c), features, values, cv=folds).mean()) for c in _STRENGTHS
        ]
        strength = _STRENGTHS[int(np.argmax(scores))]
        score = f"{max(scores):.1%} right in {_FOLDS}-fold cross-validation"
    fitted = model(strength).fit(features, values)
    weights, offsets = fitted.coef_.T, fitted.intercept_
    if len(present) == 2:  # one logit, half of which goes to each class
        weights = np.concatenate([-weights, weights], axis=1) / 2
        offsets = np.array([-offsets[0], offsets[0]]) / 2
    kernel[:, present], bias[present] = weights, offsets
    return kernel, bias, score


def _decisions(
    label: Label, features: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    """A logistic regression for each class of several, or for each threshold between classes."""
    from sklearn.linear_model import LogisticRegression  # late, as above

    num_outputs = label.logits_shape[0]
    kernel, bias = np.zeros([features.shape[1], num_outputs]), np.zeros(num_outputs)
    right, asked = 0, 0
    for i in range(num_outputs):
        # A threshold is fitted on the examples that reach the class below it.
        rows = np.ones(len(values), bool) if label.value_shape else values >= i
        is_true = values[rows, i] > 0 if label.value_shape else values[rows] > i
        if len(set(is_true.tolist())) < 2:
            fraction = (is_true.sum() + 0.5) / (len(is_true) + 1)
            bias[i] = np.log(fraction / (1 - fraction))
            continue
        fitted = LogisticRegression(C=_STRENGTHS[1], max_iter=500).fit(features[rows], is_true)
        kernel[:, i], bias[i] = fitted.coef_[0], fitted.intercept_[0]
        right += int((fitted.predict(features[rows]) == is_true).sum())
        asked += len(is_true)
    fraction = right / asked if asked else float("nan")
    return kernel, bias, f"{fraction:.1%} of the training decisions correct"


def _real_values(
    features: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], str]:
    from sklearn.linear_model import RidgeCV  # late, as above

    fitted = RidgeCV(alphas=[1e1, 1e2, 1e3, 1e4]).fit(features, values)
    error = np.sqrt(-fitted.best_score_)
    kernel, bias = fitted.coef_[:, None], np.array([fitted.intercept_])
    return kernel, bias, f"off by {error:.3g} (root mean square, leave one out)"
