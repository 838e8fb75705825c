"""``tfic completion SHELL``: completion of verbs, flags and their values in a shell."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Mapping

from tf_image_classification.cli.verb import Verb, verb
from tf_image_classification.config import Option, Settings, declare
from tf_image_classification.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic completion``."""

    shell: str = declare(
        "",
        "Shell that completes: bash, zsh or tcsh.",
        choices=("bash", "zsh", "tcsh"),
        is_required=True,
    )


@verb(
    "completion",
    Arguments,
    description="Print a script that completes verbs, flags and their values in a shell.\n"
    'bash: put eval "$(tfic completion bash)" into ~/.bashrc.\n'
    "zsh:  tfic completion zsh > ~/.zfunc/_tfic, a folder in fpath.",
    example="tfic completion bash",
    positions=("shell",),
    is_listing=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Print the script."""
    from tf_image_classification.cli.main import VERBS  # late: it imports this module

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UsageError("shtab is not installed: pip install shtab.") from error
    print(shtab.complete(_parser(VERBS), given.shell))
    return 0


def _parser(verbs: Mapping[str, str]) -> argparse.ArgumentParser:
    """All verbs in the form that shtab reads; nothing is parsed with it."""
    parser = argparse.ArgumentParser("tfic")
    of_verbs = parser.add_subparsers()
    for name, summary in verbs.items():
        module = importlib.import_module(f"tf_image_classification.cli.{name.replace('-', '_')}")
        described: Verb[object] = module.main
        of_verb = of_verbs.add_parser(name, help=summary, description=summary)
        for option in described.all_options().values():
            _add(of_verb, option, is_position=option.name in described.positions)
    return parser


def _add(parser: argparse.ArgumentParser, option: Option, *, is_position: bool) -> None:
    import shtab

    summary = option.help.partition(". ")[0].replace("%", "%%")
    flags = [f"--{name}" if name[1:] else f"-{name}" for name in (option.name, *option.aliases)]
    if option.kind is bool:
        parser.add_argument(*flags, action="store_true", help=summary)
        return
    choices = option.choices or None
    actions = [parser.add_argument(*flags, choices=choices, help=summary)]
    if is_position:
        actions.append(parser.add_argument(f"_{option.name}", nargs="*", choices=choices))
    for action in actions:
        if option.kind in (str, tuple) and choices is None:
            setattr(action, "complete", shtab.FILE)  # noqa: B010
