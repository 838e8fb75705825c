"""The tables of the settings of a run, one for each group."""

from reference.markdown import table
from tf_image_classification.config.command_line import default_text, meaning
from tf_image_classification.config.groups import FILE_OPTIONS, GROUPS, OPTIONS, SHORT_FORMS
from tf_image_classification.config.groups import FileSettings as _FileSettings
from tf_image_classification.config.options import Option

_HEAD = ("option", "value", "default", "meaning")


def option_tables() -> str:
    """A heading, a table and the options that a resumed run must keep, for each group."""
    parts = []
    for name, group in GROUPS.items():
        options = [option for option in OPTIONS.values() if option.group == name]
        parts.append(_section(name.replace("_", " "), group.__doc__ or "", options))
    parts.append(_section("settings file", _FileSettings.__doc__ or "", [*FILE_OPTIONS.values()]))
    return "\n".join(parts)


def _section(name: str, summary: str, options: list[Option]) -> str:
    text = f"## {name.capitalize()}\n\n{summary}\n\n" + table(_HEAD, map(_cells, options))
    fixed = [f"`{option.name}`" for option in options if option.resume == "same"]
    return text + (f"\nA resumed run must keep: {', '.join(fixed)}.\n" if fixed else "")


def _cells(option: Option) -> tuple[str, ...]:
    short = ", ".join(f"`{name}`" for name in (*option.aliases, *SHORT_FORMS.get(option.name, ())))
    default = "" if option.name in FILE_OPTIONS else default_text(option)
    return (
        f"`{option.name}`" + (f" (short: {short})" if short else ""),
        option.expected,
        f"`{default}`" if default else "",
        meaning(option) + _conditions(option),
    )


def _conditions(option: Option) -> str:
    """Other options that this one needs or excludes."""
    text = f" Needs `{option.needs}`." if option.needs else ""
    return text + (f" Not together with `{option.excludes}`." if option.excludes else "")
