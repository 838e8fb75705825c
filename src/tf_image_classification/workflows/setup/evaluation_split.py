"""The evaluation set of a run that names none: a split of its training set, or a held-out part.

settings = with_own_evaluation(settings, sources)   # --train_metadata pets
"""

from __future__ import annotations

from tf_image_classification.config import DEFAULT_EVAL_SPLIT, Settings, check_needs
from tf_image_classification.dataset.readers import has_evaluation_part
from tf_image_classification.errors import ConfigError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.setup.context import Sources

ORIGIN = "train_metadata"
_NO_EVALUATION = (
    "The run has no evaluation: no metrics, no best checkpoint, no early stopping. {} to get one."
)


def default_eval_split(settings: Settings) -> float:
    """The ``eval_split`` of a run without a spec; 0 if an earlier version began it."""
    begun = ModelFolder(settings.run.model_dir).read_manifest()
    has_none = begun is not None and "eval_split" not in begun.settings
    return 0.0 if settings.data.eval_metadata or has_none else DEFAULT_EVAL_SPLIT


def with_own_evaluation(settings: Settings, sources: Sources) -> Settings:
    """The settings, with a part of the training set as evaluation set if none is given.

    That is the evaluation split of a divided set, or else the part that ``eval_split`` holds out.

    Args:
        settings: all settings.
        sources: sources that are found already, and gets those that are found here.

    Raises:
        DataError: the training set cannot be found, or is divided ambiguously.
        ConfigError: a setting of evaluations is given, and there is nothing to evaluate on; or
            ``eval_split`` is given and has no effect.
    """
    if not settings.run.evaluate:
        settings = _with_part(settings, sources)
    check_needs(settings)
    return settings


def _with_part(settings: Settings, sources: Sources) -> Settings:
    data = settings.data
    why_not, evaluation = "", data.eval_metadata or data.train_metadata
    if data.eval_metadata:
        why_not = "there is an evaluation set, eval_metadata"
    elif data.train_metadata and has_evaluation_part(data.train_metadata, "train_metadata"):
        why_not = f"{', '.join(data.train_metadata)} has an evaluation split"
    elif data.eval_split and data.input_mode == "streaming":
        why_not, evaluation = "input_mode is streaming, and a stream is not divided", ()
    elif data.eval_split and data.train_metadata:
        held = sources.held_out(data.train_metadata, "train_metadata", settings)
        if not held.num_held:
            why_not, evaluation = "no class has examples that can be divided", ()
    elif not data.eval_split:
        why_not, evaluation = "nothing is held out", ()
    for name in ("eval_split", "group_column", "groups"):
        if why_not and settings.values()[name] and settings.is_chosen(name):
            raise ConfigError(
                f"{name} ({settings.origin(name)}) has no effect: {why_not}. Remove it."
            )
    if why_not and data.eval_split:
        settings = settings.with_choices({"eval_split": 0.0}, ORIGIN, over=("backbone",))
    if evaluation and not data.eval_metadata:
        settings = settings.with_choices({"eval_metadata": evaluation}, ORIGIN)
    return settings


def why_no_evaluation(settings: Settings) -> str:
    """A sentence for a run whose training set could be held out in part but is not, or ""."""
    data = settings.data
    if data.eval_metadata or not data.train_metadata or settings.origin("eval_split") == "default":
        return ""
    if data.input_mode == "streaming":
        return _NO_EVALUATION.format("A stream is not divided: give --eval_metadata")
    return _NO_EVALUATION.format(
        "Give --eval_metadata, or --eval_split with two or more examples of a class"
    )
