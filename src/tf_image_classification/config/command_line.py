"""The command line: arguments to settings, and settings to text. Needs no TensorFlow."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml
from absl import flags

from tf_image_classification.config import (
    ALIASES,
    OPTIONS,
    Option,
    Settings,
    make_settings,
    yaml_files,
)
from tf_image_classification.errors import ConfigError, nearest

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

GONE = {
    "shuffle": "Examples are shuffled; --debug keeps their order.",
    "sync_replicas": "Workers always train in step. Remove it.",
    "replicas_to_aggregate": "Workers always train in step. Remove it.",
    "job_dir": "Use --model_dir.",
}
"""Flags of the first version and of ML Engine that have no successor of their name."""

FRONT_DOOR = {
    "config": "File of settings in YAML, name: value; flags take precedence.",
    "print_config": "Print the resolved settings as YAML, with where each came from, and end.",
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define every option as an absl flag, once.

    A program may define a flag of the same name itself, before or after this, unless the first
    version had defined it. The program's flag then takes the place of the option's, which gets its
    value only where both mean the same since 2018.
    """
    common: dict[str, Any] = {"flag_values": flag_values, "allow_override": True}
    if "config" not in flag_values:
        flags.DEFINE_string("config", None, FRONT_DOOR["config"], **common)
    if "print_config" not in flag_values:
        flags.DEFINE_bool("print_config", False, FRONT_DOOR["print_config"], **common)
    for option in OPTIONS.values():
        for name in (option.name, *option.aliases):
            is_taken = name in flag_values
            if not is_taken or (name in _OF_2018 and is_of_program(name, flag_values)):
                _define(option, name, flag_values)


def _define(option: Option, name: str, flag_values: flags.FlagValues) -> None:
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


def join_lists(arguments: Sequence[str]) -> list[str]:
    """Arguments in which every value after a list's flag has a flag of its own.

    The shell expands an unquoted ``--train_metadata tfrecords/train*`` into several arguments; all
    of them belong to the flag that they follow.

    Raises:
        ConfigError: a list's flag has no value, as when a shell's pattern matches nothing.

    Example:
        >>> join_lists(["--train_metadata", "a", "b", "--seed", "1"])
        ['--train_metadata=a', '--train_metadata=b', '--seed', '1']
    """
    lists = {option.name for option in OPTIONS.values() if option.kind is tuple}
    joined: list[str] = []
    current = empty = ""
    for argument in arguments:
        name, equals, _ = argument.lstrip("-").partition("=")
        if argument.startswith("-") and len(argument) > 1:
            _refuse_empty(empty)
            current = name if name in lists else ""
            empty = current if not equals else ""
            if not empty:
                joined.append(argument)
        elif current:
            empty = ""
            joined.append(f"--{current}={argument}")
        else:
            joined.append(argument)
    _refuse_empty(empty)
    return joined


def _refuse_empty(name: str) -> None:
    if name:
        raise ConfigError(
            f"--{name} has no value. Write --{name} VALUE, or several; if it was a pattern, it "
            "matches no file."
        )


def parse(arguments: Sequence[str], flag_values: flags.FlagValues) -> None:
    """Parse arguments (without the program's name) into the flags; earlier ones are forgotten.

    Raises:
        ConfigError: an unknown flag, a wrong value, or an argument that belongs to no flag.
    """
    arguments = usual_form(arguments, known={*FRONT_DOOR, *OPTIONS, *ALIASES})
    for name in (*FRONT_DOOR, *OPTIONS, *ALIASES):
        flag_values[name].unparse()
    try:
        rest = flag_values(["", *map(_without_underscore, join_lists(arguments))])[1:]
    except flags.UnrecognizedFlagError as error:
        plain = error.flagname.replace("-", "_")
        hint = GONE.get(plain) or GONE.get(plain.removeprefix("no"), "")
        hint = hint or nearest(error.flagname, [*_named_by_users(flag_values), "help"]).lstrip()
        text = f"Unknown flag --{error.flagname}. {hint}".rstrip()
        raise ConfigError(f"{text} See --help.") from error
    except flags.Error as error:
        raise ConfigError(f"{_readable(str(error))} See --help.") from error
    except ValueError as error:  # absl's, of --noname=value
        name = str(error).partition("=")[0]
        raise ConfigError(f"{name} takes no value. See --help.") from error
    if rest:
        raise ConfigError(
            f"{rest[0]!r} belongs to no flag. {_where_it_belongs(rest[0], arguments)}"
        )


def usual_form(arguments: Sequence[str], known: Collection[str] | None = None) -> list[str]:
    """Arguments with what people write otherwise put right, up to a ``--``.

    ``--batch-size`` becomes ``--batch_size``, and a ``~`` that the shell has left, because it was
    quoted or follows a ``=``, the home folder.

    Args:
        arguments: those of a program or a verb.
        known: the names that are changed; by default all.

    Example:
        >>> usual_form(["--model-dir=~/runs", "--", "--a-b"])
        ['--model_dir=/home/me/runs', '--', '--a-b']
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [*(_usual_form(each, known) for each in arguments[:end]), *arguments[end:]]


def _usual_form(argument: str, known: Collection[str] | None) -> str:
    found = re.fullmatch(r"(--?)([A-Za-z][\w-]*)(=.*)?", argument, re.DOTALL)
    if found is None:
        return os.path.expanduser(argument)
    dashes, name, value = found[1], found[2], found[3] or ""
    plain = name.replace("-", "_")
    if known is None or {plain, plain.removeprefix("no").removeprefix("_")} & set(known):
        name = plain
    return f"{dashes}{name}{value[:1]}{os.path.expanduser(value[1:])}"


_WEIGHTS = (".ckpt", ".h5", ".hdf5", ".keras", ".weights")


def _where_it_belongs(word: str, arguments: Sequence[str]) -> str:
    """What to write instead of a word that belongs to no flag."""
    at = list(arguments).index(word) if word in arguments else 0
    before = arguments[at - 1].lstrip("-") if at else ""
    if before in OPTIONS and OPTIONS[before].kind is bool:
        return f"Write --{before}={word}, or --{before} alone."
    name, equals, _ = word.partition("=")
    if equals and name in (*OPTIONS, *ALIASES):
        return f"Write --{word}."
    if re.fullmatch(r"[\w./\\-]+:[A-Za-z_]\w*", word):
        return f"For a spec write --spec {word}."
    if word.endswith(".py"):
        return f"For a spec write --spec {word}:Class; a program is run with python {word}."
    if word.endswith((".yml", ".yaml")):
        return f"For settings write --config {word}."
    if word.endswith(_WEIGHTS):
        return f"For weights write --checkpoint_path {word}."
    if os.path.exists(os.path.join(word, "run.json")):
        return f"For a model folder write --model_dir {word}."
    if os.path.exists(word) or "." in word or "*" in word or "/" in word:
        return f"For data write --train_metadata {word}, or --eval_metadata {word}."
    return (
        "Write --name value or --name=value; several files may follow --train_metadata, "
        "--eval_metadata and --labels."
    )


def _without_underscore(argument: str) -> str:
    """``--no_inspect`` as ``--noinspect``, which is how absl turns a switch off."""
    found = re.fullmatch(r"--?no[_-](\w+)(=.*)?", argument)
    is_switch = found is not None and found[1] in OPTIONS and OPTIONS[found[1]].kind is bool
    return f"--no{found[1]}{found[2] or ''}" if found and is_switch else argument


def _named_by_users(flag_values: flags.FlagValues) -> list[str]:
    """The flags of this package and of the user's program, without those of absl and TensorFlow."""
    foreign = ("absl", "tensorflow", "keras")
    modules = flag_values.flags_by_module_dict()
    return [f.name for m, fs in modules.items() if not m.startswith(foreign) for f in fs]


def _readable(message: str) -> str:
    """What absl says of a value, in the words of ``Option``."""
    found = re.match(
        r"flag --(\w+)=(.*?): (invalid literal|could not convert|\('Non-boolean)", message
    )
    if found and "Non-boolean" in found[3]:
        return f"{found[1]} is {found[2]!r}, expected true or false."
    if found and found[1] in OPTIONS:
        try:
            OPTIONS[found[1]].check(found[2])
        except ConfigError as error:
            return str(error)
    return message if message.endswith(".") else f"{message}."


def settings_from(
    flag_values: flags.FlagValues, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings that parsed flags, their settings file and the environment give.

    Args:
        flag_values: the parsed flags.
        environment: the process's variables; those of Vertex AI name the folders of a job.

    Raises:
        ConfigError: as ``make_settings``; or the file is not readable as settings.
    """
    given: dict[str, Any] = {}
    for name in [*OPTIONS, *ALIASES]:
        if not _sets_option(name, flag_values):
            continue
        option, value = ALIASES.get(name, name), flag_values[name].value
        if option in given:
            raise ConfigError(f"--{name} and --{option} are two names of one setting. Give one.")
        given[option] = _joined(OPTIONS[option], value)
    path = "" if is_of_program("config", flag_values) else flag_values["config"].value or ""
    settings = make_settings(
        environment=_folders_of_vertex(environment or {}),
        file=read_settings_file(path) if path else None,
        file_path=path,
        flags=given,
    )
    for name, value in settings.values().items():  # for a program that reads FLAGS itself
        if not is_of_program(name, flag_values):
            flag_values[name].value = list(value) if isinstance(value, tuple) else value
    return settings


def _sets_option(name: str, flag_values: flags.FlagValues) -> bool:
    """Whether a flag has a value that the option of its name takes."""
    flag = flag_values[name]
    if not is_of_program(name, flag_values):
        return bool(flag.present)
    return name in _OF_PROGRAMS and bool(flag.value)


def hidden_options(flag_values: flags.FlagValues) -> list[str]:
    """Options that the command line cannot set, because the program uses their flags itself."""
    of_program = (n for n in (*FRONT_DOOR, *OPTIONS) if is_of_program(n, flag_values))
    return [n for n in of_program if n not in _OF_PROGRAMS and flag_values[n].present]


def _folders_of_vertex(environment: Mapping[str, str]) -> dict[str, str]:
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
        ConfigError: there is no such file, or it holds no mapping.
    """
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


def flag_table() -> str:
    """Every flag as a Markdown table, for the documentation."""
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for option in OPTIONS.values():
        names = ", ".join(f"`{name}`" for name in (option.name, *option.aliases))
        lines.append(f"| {names} | {_default_text(option)} | {_meaning(option)} |")
    for name, help_text in FRONT_DOOR.items():
        lines.append(f"| `{name}` | | {help_text} |")
    return "\n".join(lines) + "\n"


def _default_text(option: Option) -> str:
    if option.default is None or option.default in ("", ()):
        return ""
    if option.kind is bool:
        return str(option.default).lower()
    return f"{option.default:g}" if option.kind is float else str(option.default)


def _meaning(option: Option) -> str:
    text = option.help
    if option.choices and not all(choice in text for choice in option.choices):
        text += f" One of {', '.join(option.choices)}."
    if option.applies:
        other, wanted = option.applies
        only = f"{other} {', '.join(map(str, wanted))}"
        text += f" Not with {other}." if wanted == (False,) else f" Only with {only}."
    return text


def help_text(usage: str, names: Iterable[str] = OPTIONS) -> str:
    """Flags by group, for ``--help``; all of them unless only some act."""
    lines = [usage, ""]
    group = ""
    for option in map(OPTIONS.__getitem__, names):
        if option.group != group:
            group = option.group
            lines += ["", f"{group}:"]
        default = _default_text(option)
        shown = ", ".join(f"--{name}" for name in (option.name, *option.aliases))
        shown += f" (default {default})" if default else ""
        lines.append(f"  {shown}")
        lines += textwrap.wrap(
            _meaning(option), 92, initial_indent="      ", subsequent_indent="      "
        )
    lines += ["", "settings file:"]
    for name, text in FRONT_DOOR.items():
        lines += [f"  --{name}", f"      {text}"]
    return "\n".join(lines)
