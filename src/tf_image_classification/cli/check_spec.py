"""``tfic check-spec module:Class [flags]``: the contract, run on a spec, and every export tried."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import tf1_code, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import Settings, command_line
from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

USAGE = "usage: tfic check-spec module:Class | file.py:Class [flags]"


def main(arguments: Sequence[str]) -> int:
    """Check; returns 0 when no promise is broken."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with ends_the_process():
        if not arguments or arguments[0].startswith("-"):
            raise ConfigError(f"Which spec? {USAGE}")
        reference, rest = arguments[0], arguments[1:]
        settings = train_estimator.settings_of_command_line(rest)
        prepare_tensorflow(settings)
        broken, exports = _checked(reference, settings)
        for promise in broken:
            print(f"broken: {promise}")
        if not broken:
            print(f"{reference} keeps the contract.")
        for name, reason in exports.items():
            print(f"export {name}: {reason or 'works'}")
    return 1 if broken else 0


def _checked(reference: str, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """What is wrong with a spec, and if nothing is, by format why it cannot be exported, or "".

    If something is, every line of TensorFlow 1 code is named too.
    """
    from tf_image_classification.estimator_specs import load_spec, source_path
    from tf_image_classification.workflows import export_check, export_saved_model
    from tf_image_classification.workflows.setup.spec_check import check_spec

    path = reference.rpartition(":")[0]
    try:
        spec = load_spec(reference)
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
