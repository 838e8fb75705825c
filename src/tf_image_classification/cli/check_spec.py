"""``tfic check-spec module:Class``: the contract run on a spec, and every export tried."""

from __future__ import annotations

import dataclasses

from tf_image_classification import tf1_code
from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import SpecError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic check-spec``."""

    spec: str = declare("", "Spec as module:Class or file.py:Class.", is_required=True)


@verb(
    "check-spec",
    Arguments,
    description="Validate a spec: run the contract of EstimatorSpec on synthetic images and try "
    "every export.\nEnds with status 1 if the spec breaks the contract.",
    example="tfic check-spec pets.py:PetsSpec --image_size 96",
    positions=("spec",),
    common=(*specs.COMMON, "quiet", "verbose", "config"),
)
def main(given: Arguments, settings: Settings) -> int:
    """Check; returns 0 when the spec keeps the contract."""
    prepare_tensorflow(settings)
    broken, exports = _checked(given.spec, settings)
    for promise in broken:
        print(f"broken: {promise}")
    if not broken:
        print(f"{given.spec} keeps the contract.")
    for name, reason in exports.items():
        print(f"export {name}: {reason or 'works'}")
    return int(bool(broken))


def _checked(reference: str, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The broken promises of a spec with its TensorFlow 1 code, and export errors by format.

    Exports are tried if no promise is broken; the error of one that works is "".
    """
    from tf_image_classification.estimator_specs import source_path
    from tf_image_classification.workflows import export_check, export_saved_model
    from tf_image_classification.workflows.setup.spec_check import check_spec

    path = reference.rpartition(":")[0]
    try:
        spec = specs.load(reference, settings)
    except SpecError as error:
        old = tf1_code.find(path)
        if not old:
            raise
        return [str(error), *(finding.text() for finding in old)], {}
    broken, exports = check_spec(spec, settings), {}
    if broken and (path := source_path(spec)):
        broken += [finding.text() for finding in tf1_code.find(path)]
    if not broken and export_saved_model.exports(spec, settings):
        try:
            exports = export_check.try_formats(spec, settings)
        except SpecError as error:
            broken.append(str(error))
    return broken, exports
