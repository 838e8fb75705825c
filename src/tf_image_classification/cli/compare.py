"""``tfic compare A B``: whether one model is better than another, on the same examples."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import make_settings
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

_EXAMPLE = "example: tfic compare runs/small runs/large --group_column person"


def main(arguments: Sequence[str]) -> int:
    """Compare; returns the exit status."""
    given = _parser().parse_args(arguments)
    with ends_the_process():
        cli_arguments.check_output("json", given.json)
        prepare_tensorflow(make_settings({}))
        from tf_image_classification.evaluation import compare as comparing
        from tf_image_classification.evaluation.predictions import read_predictions

        a, b = (read_predictions(_file(path)) for path in (given.a, given.b))
        found = comparing.compare(a, b, given.group_column)
        for name, one in found.items():
            print(f"{name}: {one.verdict}, on {one.difference.count} examples")
            print(f"  {one.score_name:<20} A {one.a}, B {one.b}")
            print(f"  {'difference B - A':<20} {one.difference}, p = {one.p_value:.2g}")
            print(f"  {'flipped':<20} {len(one.gained)} better in B, {len(one.lost)} worse")
            for kind, names in (("better in B", one.gained), ("worse in B", one.lost)):
                for uri in names[: given.show]:
                    print(f"    {kind}: {uri}")
        if given.json:
            files.write_json(given.json, comparing.as_json(found))
            print(f"wrote {given.json}")
    return 0


def _file(path: str) -> str:
    """The predictions that a path names: the file itself, or that of a model folder."""
    if path.endswith(".parquet"):
        return path
    folder = ModelFolder(path)
    if not files.exists(folder.predictions):
        folder.known_manifest()
    return folder.predictions


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic compare",
        description="Say whether model B is better or worse than model A on the examples that both "
        "were evaluated on, or whether that cannot be told.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("a", help="model folder that was evaluated, or a predictions.parquet")
    add("b", help="the other one")
    add("--group_column", default="", help="column whose examples belong together, as a person")
    add("--show", type=int, default=5, help="flipped examples to name of each kind (5)")
    add("--json", default="", help="JSON file to write, with all flipped examples")
    return parser
