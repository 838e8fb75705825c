"""The settings of a command line, of a settings file and of a program's absl flags; their texts.

Programs define flags of their own with absl and read ``FLAGS``, so every setting is an absl flag
too. What a user types is parsed by ``config.parser``, as for the verbs of tfic.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.config.foreign_flags import explain_flag
from tf_image_classification.config.groups import ALIASES, FILE_OPTIONS, OPTIONS
from tf_image_classification.config.options import Option
from tf_image_classification.config.parser import (
    FOREIGN,
    HELP,
    HELP_ALL,
    Line,
    read_line,
)
from tf_image_classification.config.settings import Settings, make_settings
from tf_image_classification.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from absl import flags

HELP_WIDTH = 80
"""Columns of a help page."""

_OF_PROGRAMS = ("evaluate", "labels", "output_cm_folder")
"""Flags that the programs of 2018 define themselves, with the meaning that they have here."""

# Flags that the first version defined. A program never could define one of these itself.
_OF_2018 = frozenset(
    {
        *("model_dir", "checkpoint_path", "warm_start_ckpt", "train_metadata", "eval_metadata"),
        *("batch_size", "train_steps", "image_size", "eval_freq", "eval_throttle_secs", "debug"),
        *("weight_decay", "optimizer", "adadelta_rho", "adagrad_initial_accumulator_value"),
        *("adam_beta1", "adam_beta2", "opt_epsilon", "ftrl_learning_rate_power"),
        *("ftrl_initial_accumulator_value", "ftrl_l1", "ftrl_l2", "momentum", "rmsprop_momentum"),
        *("rmsprop_decay", "learning_rate_decay_type", "learning_rate", "end_learning_rate"),
        *("label_smoothing", "learning_rate_decay_factor", "num_epochs_per_decay"),
        *("moving_average_decay", "trainable_scopes", "checkpoint_exclude_scopes"),
        *("checkpoint_restore_scopes", "save_summary_steps", "save_checkpoints_steps"),
        *("save_checkpoints_secs", "keep_checkpoint_max"),
    }
)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define every option as an absl flag, once.

    A program may define a flag of the same name itself, before or after this, unless the first
    version had defined it. The program's flag then takes the place of the option's, which gets its
    value only where both mean the same since 2018.
    """
    for option in (*FILE_OPTIONS.values(), *OPTIONS.values()):
        for name in (option.name, *option.aliases):
            is_taken = name in flag_values
            if not is_taken or (name in _OF_2018 and is_of_program(name, flag_values)):
                _define(option, name, flag_values)


def _define(option: Option, name: str, flag_values: flags.FlagValues) -> None:
    from absl import flags  # late: the verbs of tfic do not need it

    common: dict[str, Any] = {"flag_values": flag_values, "allow_override": name not in _OF_2018}
    default = option.default
    if option.kind is bool:
        flags.DEFINE_bool(name, default, option.help, **common)
    elif option.kind is int:
        flags.DEFINE_integer(name, default, option.help, **common)
    elif option.kind is float:
        flags.DEFINE_float(name, default, option.help, **common)
    elif option.kind is tuple:
        flags.DEFINE_multi_string(name, list(default), option.help, **common)
    else:
        flags.DEFINE_string(name, default, option.help, **common)


def is_of_program(name: str, flag_values: flags.FlagValues) -> bool:
    """Whether the user's program has defined a flag of this name itself."""
    return bool(flag_values.find_module_defining_flag(name) != __name__)


def parse(arguments: Sequence[str], flag_values: flags.FlagValues) -> Line:
    """Parse a program's arguments (without its name) into the flags; earlier values are forgotten.

    Raises:
        UsageError: an unknown flag, a wrong value, or an argument that belongs to no flag.
    """
    from absl import flags  # late, as above

    options = {**FILE_OPTIONS, **OPTIONS}
    own = {n: o for n, o in options.items() if not is_of_program(n, flag_values)}
    table = {**own, **program_options(flag_values)}
    line = read_line(arguments, table, explain=lambda flag: explain_flag(flag, own))
    if line.asks_for_help or line.asks_for_version:
        return line
    line.values(own)
    for name in (*options, *ALIASES):
        flag_values[name].unparse()
    try:
        flag_values(["", *(f"--{name}={text}" for name, text in line.pairs)])
    except flags.Error as error:  # of a flag of the program
        raise UsageError(f"{str(error).rstrip('.')}.") from error
    return line


def program_options(flag_values: flags.FlagValues) -> dict[str, Option]:
    """The flags of the user's program and of other packages, e.g. absl, by name."""
    ours = {n for n in (*FILE_OPTIONS, *OPTIONS, *ALIASES) if not is_of_program(n, flag_values)}
    found = {"flagfile": Option("flagfile", FOREIGN, str, None, "")}
    for module, defined in flag_values.flags_by_module_dict().items():
        group = FOREIGN if module.startswith(("absl", "tensorflow", "keras")) else "program"
        for flag in defined:
            kind = bool if flag.boolean else str
            for name in filter(None, (flag.name, flag.short_name)):
                found[name] = Option(name, group, kind, flag.default, flag.help or "")
    return {name: option for name, option in found.items() if name not in {*ours, *HELP, *HELP_ALL}}


def settings_from(
    flag_values: flags.FlagValues, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings that parsed flags, their settings file and the environment give.

    Args:
        flag_values: the parsed flags.
        environment: the process's variables; those of Vertex AI name the folders of a job.

    Raises:
        UsageError: as ``merge``.
    """
    given: dict[str, Any] = {}
    for name in [*OPTIONS, *ALIASES]:
        if _sets_option(name, flag_values):
            option = OPTIONS[ALIASES.get(name, name)]
            given[option.name] = _joined(option, flag_values[name].value)
    path = "" if is_of_program("config", flag_values) else flag_values["config"].value or ""
    settings = merge(given, path, environment or {})
    set_flags(settings, flag_values)
    return settings


def set_flags(settings: Settings, flag_values: flags.FlagValues) -> None:
    """Set the absl flags to the settings, for a program or a spec that reads ``FLAGS`` itself."""
    for name, value in settings.values().items():
        if not is_of_program(name, flag_values):
            flag_values[name].value = list(value) if isinstance(value, tuple) else value
    flag_values.mark_as_parsed()


def merge(
    given: Mapping[str, Any], config_path: str = "", environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings of flags, a settings file and the environment.

    Args:
        given: values of flags by option name.
        config_path: the settings file, or "".
        environment: the process's variables; those of Vertex AI name the folders of a job.

    Raises:
        UsageError: as ``make_settings``; or the file is not readable as settings.
    """
    try:
        return make_settings(
            environment=folders_of_vertex(environment or {}),
            file=read_settings_file(config_path) if config_path else None,
            file_path=config_path,
            flags=given,
        )
    except UsageError:
        raise
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _sets_option(name: str, flag_values: flags.FlagValues) -> bool:
    """Whether a flag has a value that the option of its name takes."""
    flag = flag_values[name]
    if not is_of_program(name, flag_values):
        return bool(flag.present)
    return name in _OF_PROGRAMS and bool(flag.value)


def hidden_options(flag_values: flags.FlagValues) -> list[str]:
    """Options that the command line cannot set, because the program uses their flags itself."""
    of_program = (n for n in (*FILE_OPTIONS, *OPTIONS) if is_of_program(n, flag_values))
    return [n for n in of_program if n not in _OF_PROGRAMS and flag_values[n].present]


def folders_of_vertex(environment: Mapping[str, str]) -> dict[str, str]:
    """The folders that Vertex AI gives a job with a base output directory.

    Its folder for checkpoints is that of a model folder in the base directory.
    """
    found = {
        "export_dir": environment.get("AIP_MODEL_DIR", ""),
        "tensorboard_dir": environment.get("AIP_TENSORBOARD_LOG_DIR", ""),
        "model_dir": environment.get("AIP_CHECKPOINT_DIR", "").rstrip("/"),
    }
    found["model_dir"] = found["model_dir"].removesuffix("/checkpoints")
    return {name: path.rstrip("/") for name, path in found.items() if path}


def _joined(option: Option, value: Any) -> Any:
    """The value of a flag; a list's flag may be given several times."""
    if option.kind is tuple:
        texts = [value] if isinstance(value, str) else value  # one text where a program defines it
        return tuple(part for text in texts for part in option.split(text))
    return value


def read_settings_file(path: str) -> Mapping[str, Any]:
    """The settings in a YAML file.

    Raises:
        ConfigError: the file does not exist, or it contains no mapping.
    """
    from tf_image_classification.config import yaml_files  # late: few command lines name a file

    given = yaml_files.read_mapping(path, "--config")
    return {name: _at_home(value) for name, value in given.items()}


def _at_home(value: Any) -> Any:
    """A value of a file whose paths may begin with ``~``."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def settings_text(settings: Settings) -> str:
    """The settings as YAML that ``--config`` reads again, each with its origin as a comment.

    Defaults are comments altogether: given, some of them would have no effect or exclude others.
    """
    import yaml  # late, as above

    lines = []
    for name, value in settings.values().items():
        plain = list(value) if isinstance(value, tuple) else value
        characters = "".join(value) if isinstance(value, tuple) else str(value)
        text = yaml.safe_dump(
            {name: plain},
            default_flow_style=True,
            allow_unicode=characters.isprintable(),  # line breaks have many forms
            width=10**6,
        )
        inner = text.strip()[1:-1]
        origin = settings.origin(name)
        shown = inner if value is not None else f"{name}:"
        if origin == "default" or value is None:
            shown = f"# {shown}"
        lines.append(f"{shown:<60} # {origin}")
    return "\n".join(lines) + "\n"


def default_text(option: Option) -> str:
    """The default as help pages show it; "" for none."""
    if option.default is None or option.default in ("", ()):
        return ""
    if option.kind is bool:
        return str(option.default).lower()
    return f"{option.default:g}" if option.kind is float else str(option.default)


def meaning(option: Option) -> str:
    """The help of an option, with its choices and the option that it depends on."""
    text = option.help
    if option.choices and not all(choice in text for choice in option.choices):
        text += f" One of {', '.join(option.choices)}."
    if option.applies:
        other, wanted = option.applies
        only = f"{other} {', '.join(map(str, wanted))}"
        text += f" Not with {other}." if wanted == (False,) else f" Only with {only}."
    return text


def help_text(
    usage: str, groups: Mapping[str, Sequence[Option]], positions: Sequence[str] = ()
) -> str:
    """A help page: the usage and description, then options under the heading of their group.

    Args:
        usage: the first lines.
        groups: options by heading; empty ones are left out.
        positions: names of the options that need no flag.
    """
    lines = [usage]
    for heading, options in groups.items():
        lines += ["", f"{heading}:"] if options else []
        for option in options:
            default = "" if option.is_required else default_text(option)
            names = (option.name, *option.aliases)
            shown = ", ".join(f"--{n}" if n[1:] else f"-{n}" for n in names)
            shown = f"{option.shown}, {shown}" if option.name in positions else shown
            lines.append(f"  {shown}" + (f" (default {default})" if default else ""))
            lines += textwrap.wrap(
                meaning(option), HELP_WIDTH, initial_indent="      ", subsequent_indent="      "
            )
    return "\n".join(lines)


def by_group(options: Iterable[Option]) -> dict[str, list[Option]]:
    """Options by the name of their group, in the order in which they are given."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault(option.group.replace("_", " "), []).append(option)
    return groups
