"""Findings from frozen features: outliers, label errors, separability of the classes."""

import numpy as np
import pytest

from tf_image_classification import backbones
from tf_image_classification.cli import inspect as inspect_verb
from tf_image_classification.dataset.readers import Place
from tf_image_classification.errors import CheckpointError
from tf_image_classification.inspection.features import extract_features, feature_findings
from tf_image_classification.inspection.findings import Inspection
from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.workflows.inspect import inspect
from workflows.test_inspect import kinds, picture, saved


def set_of(labels):
    images = [
        ImageStats(
            str(i), f"{i}.jpg", {"label": name}, Place("file", ""), problem="" if name else "cut"
        )
        for i, name in enumerate(labels)
    ]
    return Inspection(images, ["train"] * len(images), ["label"])


def test_wrong_labels_and_outliers_are_found():
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    labels = np.array(["ant", "bee", "cat"])[truth].tolist()
    features = random.normal(0, 0.6, [121, 8]).astype(np.float32)
    features[:120, :3] += 6 * np.eye(3, dtype=np.float32)[truth]
    labels[3], labels[50] = "bee", "cat"
    features[100] = 0
    features[100, 7] = 40.0  # where nothing else is
    found = set_of([*labels, ""]).with_findings(feature_findings(set_of([*labels, ""]), features))
    wrong = {i for [i] in kinds(found)["label_errors"].members}
    assert {3, 50} <= wrong <= {3, 50, 100}
    assert kinds(found)["outliers"].members == [[100]]
    assert "%" in kinds(found)["separability"].text


def test_few_images_have_no_findings():
    few = set_of(["ant", "bee"] * 4)
    assert list(feature_findings(few, np.zeros([8, 4], np.float32))) == []
    one_class = set_of(["ant"] * 30)
    features = np.random.default_rng(1).normal(size=[30, 4]).astype(np.float32)
    found = one_class.with_findings(feature_findings(one_class, features))
    assert "label_errors" not in kinds(found)


@pytest.mark.slow
def test_features_come_from_the_named_weights(tmp_path):
    for i in range(12):
        path = tmp_path / "set" / ("ant", "bee")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(picture(i)))
    (tmp_path / "set" / "ant" / "broken.jpg").write_bytes(b"no image")
    size = backbones.find("mobilenet_v1_025").image_size
    model = backbones.create("mobilenet_v1_025", (size, size, 3))
    weights = str(tmp_path / "m.weights.h5")
    model.save_weights(weights)
    plain = inspect(str(tmp_path / "set"))
    given = plain.images, "mobilenet_v1_025", weights
    features = extract_features(*given).values
    broken = [bool(image.problem) for image in plain.images]
    assert features.shape[0] == 13 and (np.abs(features).sum(axis=1) == 0).tolist() == broken
    np.testing.assert_array_equal(features, extract_features(*given).values)
    with pytest.raises(CheckpointError):
        inspect(str(tmp_path / "set"), backbone="mobilenet_v1_025", weights=str(tmp_path / "none"))


def test_network_and_weights_go_together(capsys):
    with pytest.raises(SystemExit):
        inspect_verb.main(["pictures", "--backbone", "mobilenet_v1"])
    assert "--checkpoint_path" in capsys.readouterr().err


def test_planted_outliers_come_first_though_most_features_hardly_vary():
    """Standardised, the many small features would drown the few that tell kinds of pictures."""
    random = np.random.default_rng(3)
    features = np.abs(random.normal(0, 0.02, [245, 512])).astype(np.float32)
    features[:, :8] += np.abs(random.normal(2, 0.5, [245, 8]))
    planted = [17, 80, 200]
    features[planted, :8] = 0.4
    for place, number in enumerate(planted):  # each unlike the others too
        features[number, 10 + place : 14 + place] = 3.0
    found = {f.kind: f for f in feature_findings(set_of(["ant"] * 245), features)}
    members = [i for [i] in found["outliers"].members]
    assert sorted(members[:3]) == planted and len(members) <= 4
    assert "unlike all others" in found["outliers"].text


def test_each_label_is_checked_by_the_features():
    random = np.random.default_rng(0)
    kind, shape = np.repeat([0, 1], 40), np.tile([0, 1], 40)
    features = random.normal(0, 0.3, [80, 6]).astype(np.float32)
    features[:, 0] += 5 * kind
    features[:, 1] += 5 * shape
    images = [
        ImageStats(str(i), "", {"kind": f"k{k}", "shape": f"s{s}"}, Place("file", ""))
        for i, (k, s) in enumerate(zip(kind, shape, strict=True))
    ]
    inspection = Inspection(images, ["train"] * 80, ["kind", "shape"])
    found = inspection.with_findings(feature_findings(inspection, features)).findings
    told = {f.label: f.text for f in found if f.kind == "separability"}
    assert told["kind"].startswith("kind: ") and told["shape"].startswith("shape: ")
    assert all("100.0%" in text for text in told.values())
