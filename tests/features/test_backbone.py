"""Features of a listing by a backbone: labelled or not, renamed, moved, added."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import backbones
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.features.backbone import backbone_features, backbone_network
from workflows.test_inspect import picture, saved

NETWORK = "mobilenet_v1_025"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for seed in range(2):
        tf.keras.utils.set_random_seed(seed)
        model = backbones.create(NETWORK, (224, 224, 3))
        paths.append(str(folder / f"{seed}.weights.h5"))
        model.save_weights(paths[-1])
    return paths


@pytest.fixture
def pictures(tmp_path):
    for i in range(6):
        path = tmp_path / "set" / ("ant", "bee")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(picture(i)))
    return tmp_path / "set"


def features(folder, weights, cache):
    listing = find_examples([str(folder)], option="train_metadata")
    found = backbone_features(listing, cache_dir=str(cache), backbone=NETWORK, weights=weights)
    return dict(zip(listing.names, found.values, strict=True)), found


@pytest.mark.slow
def test_renamed_moved_and_unlabelled_images_are_not_computed_again(pictures, weights, tmp_path):
    first, found = features(pictures, weights[0], tmp_path / "cache")
    assert found.num_computed == 6 and found.values.shape == (6, 256)
    os.rename(pictures / "ant" / "0.jpg", pictures / "bee" / "zero.jpg")
    (pictures / "bee" / "new.jpg").write_bytes(saved(picture(77)))
    (pictures / "bee" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    second, found = features(pictures, weights[0], tmp_path / "cache")
    assert found.num_computed == 1 and len(found.problems) == 1
    np.testing.assert_array_equal(second["bee/zero.jpg"], first["ant/0.jpg"])
    assert not second["bee/broken.jpg"].any()
    flat = tmp_path / "unlabelled"
    flat.mkdir()
    for path in sorted(pictures.rglob("*.jpg")):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    table = tmp_path / "unlabelled.csv"
    table.write_text("\n".join(["URIs", *map(str, sorted(flat.iterdir()))]))
    listing = find_examples([str(table)], option="pool")
    again = backbone_features(
        listing, cache_dir=str(tmp_path / "cache"), backbone=NETWORK, weights=weights[0]
    )
    assert again.num_computed == 0 and len(again.values) == 8
    _, found = features(pictures, weights[1], tmp_path / "cache")
    assert found.num_computed == 7


@pytest.mark.slow
def test_the_features_of_an_image_do_not_depend_on_the_others(weights):
    """So a pass that computes only the new images gives the same bits as one that computes all."""
    network = backbone_network(NETWORK, weights[0])
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(0, 255, [32, 224, 224, 3]), tf.float32)
    order = random.permutation(32)
    expected = network.forward(images).numpy()
    mixed = tf.where(
        tf.reshape(tf.range(32) < 5, [-1, 1, 1, 1]), tf.gather(images, order), tf.zeros_like(images)
    )
    np.testing.assert_array_equal(network.forward(mixed).numpy()[:5], expected[order[:5]])
