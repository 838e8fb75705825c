"""``tfic combine A B --model_dir C``: several trained models as one."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import json_argument, printing_json, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic combine``."""

    members: tuple[str, ...] = declare(
        (),
        "The model folders to combine, two or more; the new folder gets the settings of the first.",
        separator="",
        is_required=True,
    )
    how: str = declare(
        "soup",
        "Mean of the weights of one network (soup); the same, of the members that improve the "
        "evaluation (greedy); mean of the probabilities of any networks, at the cost of all of "
        "them (ensemble).",
        choices=("soup", "greedy", "ensemble"),
    )
    spec: str = declare(
        "", "Spec of the members, file.py:Class or module:Class, for a soup of your own networks."
    )
    json: str = json_argument()


@verb(
    "combine",
    Arguments,
    description="Combine several trained models into one: by the mean of their weights, or by the "
    "mean of\ntheir probabilities. The result is a model folder to evaluate, export and serve.",
    example="tfic combine runs/a runs/b runs/c --how greedy --model_dir runs/soup",
    positions=("members",),
    required=("model_dir",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Combine; returns the exit status."""
    if given.spec and given.how == "ensemble":
        raise UsageError("--spec has no effect with --how ensemble. Remove it.")
    with printing_json(given.json) as write_json:
        spec = specs.load(given.spec, settings) if given.spec else None
        prepare_tensorflow(settings)
        from tf_image_classification.workflows import combine  # late: for TensorFlow

        found = combine.combine(given.members, settings, given.how, spec)
        for note in found.notes:
            print(f"note: {note}")
        for path, score in found.scores.items():
            used = "in the soup" if path in found.members else "left out"
            print(f"  {path}: {found.metric} {score:.4f}, {used}")
        if found.score is not None:
            print(
                f"greedy soup of {len(found.members)}: {found.metric} {found.score:.4f} on the "
                "evaluation set that chose its members; evaluate it on another one"
            )
        else:
            print(f"{found.how} of {len(found.members)}: {', '.join(found.members)}")
        print(f"model folder:  {found.model_dir}")
        write_json(dataclasses.asdict(found))
    return 0
