"""``tfic tune --space space.yml --trials N``: hyperparameter search over trainings."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare, search_space, yaml_files
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(specs.SpecArguments):
    """The arguments of ``tfic tune``."""

    space: str = declare(
        "", "YAML file of the search space: name: {low, high, log} or {choices}.", is_required=True
    )
    trials: int = declare(
        0, "Trainings in all, counted over restarts.", is_required=True, minimum=1
    )
    study_dir: str = declare("./study", "Folder of the study; local.")
    sampler: str = declare("tpe", "Sampler of the search.", choices=("tpe", "random", "grid"))
    pruner: str = declare(
        "none", "Pruner that ends bad trials early.", choices=("none", "median", "hyperband")
    )
    timeout_secs: float = declare(
        0.0, "Seconds after which no trial is started; 0: no limit.", minimum=0.0
    )


@verb(
    "tune",
    Arguments,
    description="Hyperparameter search: train with settings from a search space and keep those "
    "with the best\nbest_metric on the evaluation set. Since that set has selected the settings, "
    "evaluate the\nresult on a test set. The same command resumes an interrupted study.",
    example="tfic tune pets --space space.yml --trials 20",
    positions=("train_metadata",),
    common=(*specs.COMMON, "quiet", "verbose", "config"),
)
def main(given: Arguments, settings: Settings) -> int:
    """Tune; returns the exit status."""
    space = search_space.parameters_of(yaml_files.read_mapping(given.space, "--space"), given.space)
    is_backbone_spec = bool(settings.backbone_spec.backbone) or any(
        p.name == "backbone" for p in space
    )
    specs.refuse_both(given.spec, is_backbone_spec)
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import tune  # late: it needs TensorFlow

    tune.check_space(space, settings)
    options = tune.TuneOptions(
        study_dir=given.study_dir,
        trials=given.trials,
        sampler=given.sampler,
        pruner=given.pruner,
        timeout_secs=given.timeout_secs,
    )
    spec = specs.load(given.spec, settings) if given.spec else None
    tune.tune(spec, settings, space, options)
    print(tune.table(options.study_dir))
    print(f"best settings: {options.study_dir}/best.yml, for --config")
    print(f"plots:         {options.study_dir}/plots")
    return 0
