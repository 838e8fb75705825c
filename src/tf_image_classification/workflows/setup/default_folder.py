"""The model folder of a run that names none: models/NAME after its training set, or models/NAME-2.

settings, line = with_default_folder(settings)     # --train_metadata pets gives models/pets
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tf_image_classification.config import DEFAULT_BACKBONE, FROM_SCRATCH, OPTIONS, Settings
from tf_image_classification.dataset.readers.names import part_role
from tf_image_classification.errors import ConfigError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files
from tf_image_classification.workflows.setup import png16_range

_ABOVE = "models"
_LONGEST = 60  # characters of a name
_SUFFIX = re.compile(r"(\.(csv|tsv|tfrecords?|tar|parquet|gz))+$", re.IGNORECASE)
_SHARD = re.compile(r"([-_.]\d+|[-_.]?[?*]+)(-of-[?*\d]+)?$")


def with_default_folder(settings: Settings) -> tuple[Settings, str]:
    """The settings, with a model folder if none is given; and then a line that names it, else "".

    It is the first one of models/NAME, models/NAME-2, ... that is new, or has a run with these data
    and settings, which this run then resumes. An earlier version's ./models comes first.

    Raises:
        ConfigError: it would lie in the training set.
        CheckpointError: the manifest in such a folder is damaged.
    """
    names = settings.data.train_metadata
    if settings.origin("model_dir") != "default" or not names:
        return settings, ""
    if not _may_be_used(_ABOVE, names, above=False):
        raise ConfigError(
            f"The default model folder, in {_ABOVE}, would lie in the training set "
            f"{', '.join(names)}. Give --model_dir."
        )
    for path in _candidates(settings.run.model_dir, name_of(names)):
        begun = ModelFolder(path).read_manifest() if _may_be_used(path, names) else None
        is_new = begun is None and path != settings.run.model_dir and _may_be_used(path, names)
        if is_new or (begun is not None and is_same_run(settings, begun)):
            state = "new" if is_new else "of the same run"
            line = f"model folder: {path} ({state}; --model_dir names another)"
            return settings.with_choices({"model_dir": path}, "train_metadata"), line
    raise AssertionError("the candidates do not end")


def cross_validation_folder(settings: Settings) -> Settings:
    """The settings, with models/NAME-cv as the folder of a cross-validation if none is given.

    Raises:
        ConfigError: it would lie in the training set.
    """
    names = settings.data.train_metadata
    path = settings.run.model_dir
    if settings.origin("model_dir") == "default":
        path = f"{_ABOVE}/{name_of(names)}-cv"
    if not _may_be_used(path, names, above=False):
        raise ConfigError(
            f"The folder of the cross-validation, {path}, is a file or would lie in the training "
            f"set {', '.join(names)}. Give --model_dir."
        )
    return settings.replace(model_dir=path)


def _candidates(earlier: str, name: str) -> Iterator[str]:
    yield earlier
    yield f"{_ABOVE}/{name}"
    for number in itertools.count(2):
        yield f"{_ABOVE}/{name}-{number}"


def _may_be_used(path: str, data: Sequence[str], *, above: bool = True) -> bool:
    """Whether a path is no file, and neither the data nor below them, nor above them."""
    if os.path.lexists(path) and not os.path.isdir(path):
        return False
    own = _whole(path) + "/"
    others = [f"{_whole(name)}/" for name in data if not files.is_remote(name)]
    return not any(own.startswith(o) or (above and o.startswith(own)) for o in others)


def name_of(names: Sequence[str]) -> str:
    """A folder's name after the first path of a training set.

    Example:
        >>> name_of(["./My pets/"]), name_of(["gs://b/pets/train-?????-of-00010"])
        ('My_pets', 'pets')
    """
    first = names[0].removeprefix("tfds:")
    if not files.is_remote(first) and part_role(first.rpartition(":")[2]):
        first = first.rpartition(":")[0]
    if not files.is_remote(first):
        first = _whole(first)
    for part in reversed(re.sub(r"^\w+://", "", first).split("/")):
        plain = part if os.path.isdir(first) else _SHARD.sub("", _SUFFIX.sub("", part))
        plain = re.sub(r"[^\w.-]+", "_", plain).strip("._-")[:_LONGEST]
        if plain and not part_role(plain):
            return plain
    return "run"


def is_same_run(settings: Settings, begun: RunManifest) -> bool:
    """Whether data and settings are those of a run; the length of the run and the like may differ.

    Only what the user has given is compared; the rest follows from it.
    """
    settings = png16_range.as_begun(settings, begun)
    before = Settings(origins=begun.origins)
    if not same_sources(settings.data.train_metadata, begun.settings["train_metadata"]):
        return False
    there = begun.settings["eval_metadata"] if before.is_chosen("eval_metadata") else ()
    if not same_sources(settings.data.eval_metadata, there):
        return False
    backbone = settings.backbone_spec.backbone or DEFAULT_BACKBONE
    if begun.settings["backbone"] != backbone:
        return False
    fixed = {name for name, option in OPTIONS.items() if option.resume == "same"}
    for name in (*(fixed - {"backbone"}), "checkpoint_path", "from_model"):
        value = begun.settings.get(name, OPTIONS[name].default)
        is_given, was_given = settings.is_chosen(name), before.is_chosen(name)
        if (is_given and _plain(name, settings.values()[name]) != _plain(name, value)) or (
            was_given and not is_given
        ):
            return False
    return True


def same_sources(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name the same files, folders or patterns."""
    return sorted(map(_whole, names)) == sorted(map(_whole, others))


def _whole(name: str) -> str:
    return name.rstrip("/") if files.is_remote(name) else os.path.abspath(name)


def _plain(name: str, value: Any) -> Any:
    """A value as the manifest has it."""
    if name == "checkpoint_path" and value == FROM_SCRATCH:
        return ""
    return list(value) if isinstance(value, tuple) else value
