"""``tfic tune --backbone NAME --space space.yml --trials N``: searches for settings."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from tf_image_classification import train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cli import specs
from tf_image_classification.config import command_line, search_space, yaml_files
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows import tune as tuning
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

USAGE = f"""usage: tfic tune {specs.WHICH} --space space.yml --trials N
       [options] [flags]

Trains N times with settings from a space, and keeps those with the best best_metric on the
evaluation set. That set has then chosen the settings: judge the result on a test set. The same
command continues a study that was interrupted.

  --space FILE         settings to vary: name: {{low, high, log}} or {{choices}}
  --study_dir DIR      folder of the study (./study)
  --sampler NAME       tpe, random or grid (tpe)
  --pruner NAME        none, median or hyperband: end bad trials early (none)
  --timeout_secs SECS  begin no trial later (no limit)
"""


def main(arguments: Sequence[str]) -> int:
    """Tune; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with ends_the_process():
        own: dict[str, str] = {}
        rest: Sequence[str] = arguments
        for name in ("spec", "space", "trials", "study_dir", "sampler", "pruner", "timeout_secs"):
            own[name], rest = cli_arguments.take(rest, name)
        for name in ("space", "trials"):
            if not own[name]:
                raise ConfigError(f"--{name} is missing. See tfic tune --help.")
        options = tuning.TuneOptions(
            study_dir=os.path.expanduser(own["study_dir"] or "./study"),
            trials=int(_number("trials", own["trials"])),
            sampler=_choice("sampler", own["sampler"] or "tpe", tuning.SAMPLERS),
            pruner=_choice("pruner", own["pruner"] or "none", tuning.PRUNERS),
            timeout_secs=_number("timeout_secs", own["timeout_secs"] or "0"),
        )
        space = search_space.parameters_of(
            yaml_files.read_mapping(own["space"], "--space"), own["space"]
        )
        settings = train_estimator.settings_of_command_line(rest)
        is_backbone_spec = bool(settings.backbone_spec.backbone) or any(
            p.name == "backbone" for p in space
        )
        if bool(own["spec"]) == is_backbone_spec:
            raise ConfigError(f"Give either a spec or a backbone: {specs.WHICH}.")
        tuning.check_space(space, settings)
        prepare_tensorflow(settings)
        from tf_image_classification.estimator_specs import load_spec

        tuning.tune(load_spec(own["spec"]) if own["spec"] else None, settings, space, options)
        print(tuning.table(options.study_dir))
        print(f"best settings: {options.study_dir}/best.yml, for --config")
        print(f"pictures:      {options.study_dir}/plots")
    return 0


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf or (name == "trials" and (value < 1 or value != int(value))):
        raise ConfigError(f"--{name} is {text!r}, expected a number above 0.")
    return value


def _choice(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ConfigError(f"--{name} is {text!r}. {did_you_mean(text, known)}")
    return text
