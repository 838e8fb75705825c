"""What the device does to training images: seen by the network, alike however it is shared out."""

import pytest

import tiny_runs
from tf_image_classification.dataset.preprocessing import Preprocessing


class Augmented(tiny_runs.TinySpec):
    """The tiny classifier without anything random, on images of our own preprocessing."""

    augmentation = "none"

    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False)

    def get_preproc_fn(self, is_training):
        return Preprocessing(is_training=is_training, augmentation=self.augmentation)


class Mirrored(Augmented):
    augmentation = "flip"


class Coloured(Augmented):
    augmentation = "colour"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_runs.write_records(tmp_path_factory.mktemp("records"))


HOW = {"batch_size": 8, "train_steps": 4}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 4}, {"strategy": "mirrored"}])
def test_parts_and_devices_change_alike(records, tmp_path, changes):
    whole = tiny_runs.run(Coloured(), tmp_path / "a", records, **HOW)
    split = tiny_runs.run(Coloured(), tmp_path / "b", records, **HOW | changes)
    assert tiny_runs.largest_difference(whole, split) < 2e-5


@pytest.mark.slow
def test_the_network_sees_the_changed_images(records, tmp_path):
    """The input hands on the same images with and without mirroring."""
    plain, mirrored = (
        tiny_runs.run(spec, tmp_path / type(spec).__name__, records, **HOW)
        for spec in (Augmented(), Mirrored())
    )
    assert tiny_runs.largest_difference(plain, mirrored) > 1e-3


@pytest.mark.slow
def test_a_run_that_goes_on_ends_with_the_same_bits(records, tmp_path):
    fixed = HOW | {"learning_rate_decay_type": "fixed"}
    straight = tiny_runs.run(Coloured(), tmp_path / "a", records, **fixed)
    tiny_runs.run(Coloured(), tmp_path / "b", records, **fixed | {"train_steps": 2})
    parts = tiny_runs.run(Coloured(), tmp_path / "b", records, **fixed)
    tiny_runs.assert_same_bits(parts, straight)
