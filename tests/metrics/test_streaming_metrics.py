"""Every metric: batches merged in any split and order give what the whole gives."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_image_classification import metrics
from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics.definitions import metric_names
from tf_image_classification.metrics.metric_direction import higher_is_better

NUM_CLASSES = 4
AVERAGES = ("macro", "micro", "weighted", None)
PER_CLASS = {
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
}


@st.composite
def examples(draw):
    """Columns of some examples: class numbers, probabilities, values and weights."""
    n = draw(st.integers(0, 25))

    def column(values, width=None):
        size = n * (width or 1)
        flat = draw(st.lists(values, min_size=size, max_size=size))
        return np.array(flat).reshape((n, width) if width else (n,))

    odds = column(st.integers(1, 20), NUM_CLASSES).astype(np.float64)
    is_weighted = draw(st.booleans())
    return {
        "labels": column(st.integers(0, NUM_CLASSES - 1)).astype(np.int64),
        "predictions": column(st.integers(0, NUM_CLASSES - 1)).astype(np.int64),
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "shares": column(st.integers(0, 2048)) / 2048,
        "targets": column(st.floats(-1e3, 1e3, width=32)).astype(np.float32),
        "values": column(st.floats(-1e3, 1e3, width=32)).astype(np.float32),
        "weights": column(st.sampled_from([0.0, 0.25, 1.0, 3.7])) if is_weighted else None,
    }


def take(columns, rows):
    return {name: None if c is None else c[rows] for name, c in columns.items()}


def merged_somehow(make, columns, random):
    """The metric of shuffled examples, cut into batches (some empty), merged in a random tree."""
    n = len(columns["labels"])
    order = list(range(n))
    random.shuffle(order)
    cuts = sorted(random.randint(0, n) for _ in range(random.randint(0, 5)))
    parts = [make(take(columns, order[a:b])) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    while len(parts) > 1:
        first = parts.pop(random.randrange(len(parts)))
        second = parts.pop(random.randrange(len(parts)))
        parts.append(first.merge(second))
    return parts[0]


def average_of(values, weights):
    return np.average(values, weights=weights)


def per_class(name, average):
    def make(c):
        function = getattr(metrics, name)
        options = {"num_classes": NUM_CLASSES, "average": average}
        return function(c["labels"], c["predictions"], c["weights"], **options)

    def reference(c):
        options = {"average": average, "sample_weight": c["weights"], "zero_division": 0}
        if average is None:
            options |= {"labels": range(NUM_CLASSES), "zero_division": np.nan}
        return PER_CLASS[name](c["labels"], c["predictions"], **options)

    return make, reference


def binary(name, positive_class):
    def make(c):
        function, options = getattr(metrics, name), {"positive_class": positive_class}
        return function(c["labels"] % 2, c["predictions"] % 2, c["weights"], **options)

    def reference(c):
        a, b = c["labels"] % 2, c["predictions"] % 2
        if positive_class not in [*a, *b]:
            return math.nan
        options = {"average": None, "sample_weight": c["weights"], "zero_division": 0}
        return PER_CLASS[name](a, b, labels=[positive_class], **options)[0]

    return make, reference


def area(curve):
    def make(c):
        return metrics.auc(c["labels"] == 1, c["shares"], c["weights"], curve=curve)

    def reference(c):
        true = c["labels"] == 1
        if curve == "PR":
            if not true.any():
                return math.nan
            return sk.average_precision_score(true, c["shares"], sample_weight=c["weights"])
        if true.all() or not true.any():
            return math.nan
        return sk.roc_auc_score(true, c["shares"], sample_weight=c["weights"])

    return make, reference


def top_2_reference(c):
    # Of equal scores scikit-learn takes the highest class first, we the lowest.
    labels, scores = NUM_CLASSES - 1 - c["labels"], c["probabilities"].astype(np.float32)[:, ::-1]
    options = {"k": 2, "labels": range(NUM_CLASSES), "sample_weight": c["weights"]}
    return sk.top_k_accuracy_score(labels, scores, **options)


CASES = {
    "accuracy": (
        lambda c: metrics.accuracy(c["labels"], c["predictions"], c["weights"]),
        lambda c: sk.accuracy_score(c["labels"], c["predictions"], sample_weight=c["weights"]),
    ),
    "top_k": (
        lambda c: metrics.top_k(
            c["labels"], c["probabilities"].astype(np.float32), 2, c["weights"]
        ),
        top_2_reference,
    ),
    "log_loss": (
        lambda c: metrics.log_loss(c["labels"], c["probabilities"], c["weights"]),
        lambda c: sk.log_loss(
            c["labels"],
            c["probabilities"],
            labels=range(NUM_CLASSES),
            sample_weight=c["weights"],
        ),
    ),
    "mean_per_class_accuracy": (
        lambda c: metrics.mean_per_class_accuracy(
            c["labels"], c["predictions"], NUM_CLASSES, c["weights"]
        ),
        lambda c: sk.recall_score(
            c["labels"],
            c["predictions"],
            labels=np.unique(c["labels"]),
            average="macro",
            sample_weight=c["weights"],
        ),
    ),
    "mean": (
        lambda c: metrics.mean(c["values"], c["weights"]),
        lambda c: average_of(c["values"].astype(np.float64), c["weights"]),
    ),
    **{f"{name} {a}": per_class(name, a) for name in PER_CLASS for a in AVERAGES},
    **{f"{name} binary {p}": binary(name, p) for name in PER_CLASS for p in (0, 1)},
    **{f"auc {curve}": area(curve) for curve in ("ROC", "PR")},
}
for name in ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error"):
    CASES[name] = (
        lambda c, name=name: getattr(metrics, name)(c["targets"], c["values"], c["weights"]),
        lambda c, name=name: getattr(sk, name)(
            c["targets"].astype(np.float64), c["values"], sample_weight=c["weights"]
        ),
    )

sampled = settings(deadline=None)


@pytest.mark.slow_after(6)
@pytest.mark.parametrize("name", CASES)
@sampled
@given(columns=examples(), random=st.randoms(use_true_random=False))
def test_any_split_and_order_equals_the_formula_on_the_whole(name, columns, random):
    make, reference = CASES[name]
    found = merged_somehow(make, columns, random).result()
    weights = columns["weights"]
    counted = take(columns, slice(None) if weights is None else weights > 0)
    if len(counted["labels"]):
        expected = reference(counted)
    else:
        expected = np.full(NUM_CLASSES, np.nan) if name.endswith("None") else math.nan
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert isinstance(found, float) or found.shape == np.shape(expected)


@pytest.mark.slow_after(5)
@pytest.mark.exhaustive_after(10)
@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith(("mean", "root", "log"))])
@sampled
@given(columns=examples(), random=st.randoms(use_true_random=False))
def test_counts_give_the_same_bits_for_any_split_and_order(name, columns, random):
    make, _ = CASES[name]
    columns["weights"] = None
    found, whole = merged_somehow(make, columns, random), make(columns)
    np.testing.assert_array_equal(found.result(), whole.result())
    for key, value in whole.sums.items():
        assert found.sums[key].dtype == np.int64
        np.testing.assert_array_equal(found.sums[key], value)


@sampled
@given(columns=examples(), random=st.randoms(use_true_random=False))
def test_confusion_matrices_of_any_split_add_up_with_true_classes_as_rows(columns, random):
    def make(c):
        return metrics.confusion_matrix(c["labels"], c["predictions"], NUM_CLASSES)

    found = merged_somehow(make, columns, random).result()
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(expected, (columns["labels"], columns["predictions"]), 1)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64


@pytest.mark.parametrize("name", CASES)
def test_a_batch_without_examples_changes_nothing(name):
    rng = np.random.default_rng(3)
    odds = rng.random((9, NUM_CLASSES)) + 0.1
    columns = {
        "labels": rng.integers(0, NUM_CLASSES, 9),
        "predictions": rng.integers(0, NUM_CLASSES, 9),
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "shares": rng.random(9),
        "targets": rng.random(9),
        "values": rng.random(9),
        "weights": rng.random(9),
    }
    make, _ = CASES[name]
    full, empty = make(columns), make(take(columns, slice(0)))
    for merged in (full.merge(empty), empty.merge(full)):
        np.testing.assert_array_equal(merged.result(), full.result())
    assert np.isnan(empty.result()).all()


def test_tensors_arrays_and_lists_give_the_same():
    labels, predictions = [0, 1, 2, 2], [0, 2, 2, 1]
    expected = metrics.accuracy(labels, predictions).result()
    for convert in (np.array, tf.constant, lambda x: tf.constant(x, tf.int32), tf.Variable):
        assert metrics.accuracy(convert(labels), convert(predictions)).result() == expected
    values = tf.constant([0.5, 1.5], tf.bfloat16)
    assert metrics.mean(values).result() == 1.0


def in_training(*labels):
    names = metric_names(LabelSchema(labels))
    return [name for name, (label, metric) in names.items() if metric.is_in_training(label)]


def test_a_class_label_alone_has_plain_metric_names():
    of_seven = in_training(Label("kind", depth=7))
    assert of_seven == ["accuracy", "top_5_accuracy", "macro_f1", "log_loss"]


def test_with_five_classes_there_is_no_top_5_accuracy():
    assert "top_5_accuracy" not in metric_names(LabelSchema((Label("kind", depth=5),)))


def test_with_several_labels_names_begin_with_the_label_and_have_a_direction():
    names = in_training(Label("kind", depth=7), Label("age", kind="regression"))
    assert names == [
        "kind/accuracy",
        "kind/top_5_accuracy",
        "kind/macro_f1",
        "kind/log_loss",
        "age/mean_absolute_error",
        "age/root_mean_squared_error",
    ]
    assert [higher_is_better(name) for name in names] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", False),
        ("val-loss", False),
        ("error_rate", False),
        ("MAE", False),
        ("rmse", False),
        ("false_positives", False),
        ("error/accuracy", True),
        ("pet/roc_auc", True),
        ("F1 score", True),
        ("recall@5", True),
        ("mean_per_class_accuracy", True),
    ],
)
def test_the_words_of_a_name_tell_whether_more_is_better(name, expected):
    assert higher_is_better(name) is expected


@pytest.mark.parametrize(
    "name", ["banana", "", "neg_log_loss", "negative log-likelihood", "accuracy_gap", "auc_error"]
)
def test_a_name_that_does_not_tell_asks_for_best_mode(name):
    with pytest.raises(ConfigError, match="best_mode"):
        higher_is_better(name)


def test_every_public_name_is_there():
    for name in metrics.__all__:
        assert hasattr(metrics, name)


OF_MULTILABEL = ("exact_match", "mean_average_precision", "multilabel_f1")


def two_columns(name):
    if name in ("top_k", "log_loss"):
        return [0, 1], [[0.5, 0.5], [0.5, 0.5]]
    if name in OF_MULTILABEL:
        return [[0, 1], [1, 0]], [[0, 1], [1, 1]]
    return [0, 1], [1, 0]


def call(name, labels, predictions, weights=None):
    function = getattr(metrics, name)
    if name == "mean":
        return function(labels, weights)
    if name == "confusion_matrix":
        return function(labels, predictions, 2)
    if name == "mean_per_class_accuracy":
        return function(labels, predictions, 2, weights)
    if name == "within":
        return function(labels, predictions, 0, weights)
    return function(labels, predictions, weights=weights)


FUNCTIONS = sorted(set(metrics.__all__) - {"StreamingMetric", "bind"})


@pytest.mark.slow_after(2)
@pytest.mark.exhaustive_after(6)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_symbolic_tensor_is_refused(name):
    labels, predictions = two_columns(name)

    @tf.function
    def traced(a, b):
        call(name, a, b)
        return a

    with pytest.raises(SpecError, match="eagerly"):
        traced(tf.constant(labels), tf.constant(predictions))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in OF_MULTILABEL])
def test_other_shapes_are_refused_and_named(name):
    labels, predictions = (np.array(x) for x in two_columns(name))
    call(name, labels, predictions)
    with pytest.raises(SpecError, match=r"\[2, 1\]"):
        call(name, labels[:, None], predictions)
    with pytest.raises(SpecError, match=r"\[\]"):
        call(name, labels[0], predictions)
    if name != "mean":
        with pytest.raises(SpecError, match=r"\[1\].*\[2"):
            call(name, labels[:1], predictions)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_is_taken_as_tf_metrics_took_it(name):
    labels, predictions = two_columns(name)
    function = getattr(metrics, name)
    more = {"confusion_matrix": [2], "mean_per_class_accuracy": [2], "within": [0]}.get(name, [])
    arguments = [labels] if name == "mean" else [labels, predictions, *more]
    named, plain = function(*arguments, name="a name"), function(*arguments)
    np.testing.assert_array_equal(named.result(), plain.result())
    assert named.kind == plain.kind


@pytest.mark.slow_after(5)
@pytest.mark.exhaustive_after(10)
@pytest.mark.parametrize(
    "name", [n for n in CASES if n.partition(" ")[0] not in ("mean", "auc") and "error" not in n]
)
@sampled
@given(columns=examples())
def test_one_hot_rows_give_the_same_as_class_numbers(name, columns):
    if "binary" in name:
        pair = {key: columns[key] % 2 for key in ("labels", "predictions")}
        rows = {key: np.eye(2, dtype=np.float32)[values] for key, values in pair.items()}
        function = getattr(metrics, name.partition(" ")[0])
        assert_same_sums(function(**rows), function(**pair))
        return
    make, _ = CASES[name]
    rows = np.eye(NUM_CLASSES, dtype=np.float32)
    given_rows = columns | {"labels": rows[columns["labels"]]}
    assert_same_sums(make(given_rows), make(columns))
    if "predictions" in columns:
        given_rows["predictions"] = rows[columns["predictions"]]
        assert_same_sums(make(given_rows), make(columns))


def test_one_hot_rows_of_a_class_number_that_is_averaged_or_ranked():
    rows, numbers = tf.one_hot([0, 2, 1], 3), [0, 2, 1]
    for function, more in (
        (metrics.mean_absolute_error, []),
        (metrics.root_mean_squared_error, []),
        (metrics.within, [1]),
    ):
        found = function(rows, [1.0, 2.0, 3.5], *more)
        assert found.result() == function(numbers, [1.0, 2.0, 3.5], *more).result()
    pair = tf.one_hot([0, 1, 1], 2)
    shares = [0.2, 0.9, 0.1]
    assert metrics.auc(pair, shares).result() == metrics.auc([0, 1, 1], shares).result() == 0.5


def assert_same_sums(found, expected):
    assert found.kind == expected.kind
    for key, value in expected.sums.items():
        np.testing.assert_array_equal(found.sums[key], value)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "confusion_matrix"])
def test_unusable_weights_are_refused(name):
    labels, predictions = two_columns(name)
    with pytest.raises(SpecError, match=r"\[3\].*\[2\]"):
        call(name, labels, predictions, [1, 1, 1])
    for weights in ([1, -1], [1, math.nan], [math.inf, 1]):
        with pytest.raises(SpecError, match="weight"):
            call(name, labels, predictions, weights)
