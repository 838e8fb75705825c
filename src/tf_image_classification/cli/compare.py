"""``tfic compare A B``: a paired test of two models on the same examples."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli.verb import json_argument, printing_json, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files, screen
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic compare``."""

    model_dirs: tuple[str, ...] = declare(
        (),
        "The two evaluated model folders A and B, or their predictions.parquet.",
        separator="",
        is_required=True,
        aliases=("model_dir",),
    )
    group_column: str = declare("", "Column that groups dependent examples, e.g. person.")
    show: int = declare(5, "Changed examples to name of each kind.", minimum=0)
    json: str = json_argument()


@verb(
    "compare",
    Arguments,
    description="Test whether model B is better or worse than model A on the examples that both "
    "were\nevaluated on, or whether the difference is not significant.",
    example="tfic compare runs/small runs/large --group_column person",
    positions=("model_dirs",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Compare; returns the exit status."""
    if len(given.model_dirs) != 2:
        raise UsageError(
            f"{len(given.model_dirs)} model folders are given ({', '.join(given.model_dirs)}), "
            "expected 2: tfic compare A B."
        )
    with printing_json(given.json) as write_json:
        write_json(_compare(given, settings))
    return 0


def _compare(given: Arguments, settings: Settings) -> dict[str, object]:
    """Print the comparison; returns it as plain values."""
    prepare_tensorflow(settings)
    from tf_image_classification.evaluation import compare as comparing  # late: for TensorFlow
    from tf_image_classification.evaluation.predictions import read_predictions

    with screen.working("comparing"):
        a, b = (read_predictions(_file(path)) for path in given.model_dirs)
        found = comparing.compare(a, b, given.group_column)
    for name, one in found.items():
        print(f"{name}: {one.verdict}, on {one.difference.count} examples")
        print(f"  {one.score_name:<20} A {one.a}, B {one.b}")
        print(f"  {'difference B - A':<20} {one.difference}, p = {one.p_value:.2g}")
        print(f"  {'flipped':<20} {len(one.gained)} better in B, {len(one.lost)} worse")
        for kind, names in (("better in B", one.gained), ("worse in B", one.lost)):
            for uri in names[: given.show]:
                print(f"    {kind}: {uri}")
    return comparing.as_json(found)


def _file(path: str) -> str:
    """The file of predictions that a path names: itself, or that of a model folder."""
    if path.endswith(".parquet"):
        return path
    folder = ModelFolder(path)
    if not files.exists(folder.predictions):
        folder.known_manifest()
    return folder.predictions
