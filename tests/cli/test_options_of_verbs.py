"""Every option in every verb: it is accepted where it takes effect, and elsewhere rejected."""

import importlib

import pytest

from tf_image_classification.cli.main import VERBS, main
from tf_image_classification.cli.verb import Verb
from tf_image_classification.config import OPTIONS
from tf_image_classification.config.groups import FILE_OPTIONS

NEEDED = {
    "check-spec": ["a:B"],
    "combine": ["a", "b", "--model_dir", "c"],
    "compare": ["a", "b"],
    "convert": ["a", "b"],
    "export": ["m", "--format", "onnx"],
    "forecast": ["a"],
    "inspect": ["a"],
    "label-next": ["a"],
    "launch": ["--workers", "2"],
    "predict": ["m", "a.jpg"],
    "report": ["m"],
    "serve": ["m"],
    "submit": ["docker", "--output", "o", "--image", "i"],
    "tune": ["--space", "s.yml", "--trials", "1"],
}
"""The arguments that a verb must have."""
COMMAND = {"launch": ["--", "python", "x.py"], "submit": ["--", "python", "x.py"]}
OTHERWISE = {
    "pixel_scaling": ("0.5/0.5", ["--backbone=mobilenet_v1"]),
    "data_service": ("grpc://host:1", ["--nodeterministic"]),
    "optimizer": ("sgd", []),
    "png16_range": ("0-4095", []),
    "balanced_sampling": ("kind", []),
    "gradient_accumulation_steps": ("2", []),
}
"""Values that a declaration does not give, and what else they need."""


def verb_named(name):
    found = importlib.import_module(f"tf_image_classification.cli.{name.replace('-', '_')}").main
    assert isinstance(found, Verb) and found.name == name
    return found


def words_for(name):
    """A flag with a value, and the flags without which it has no effect."""
    option = OPTIONS[name]
    value, more = OTHERWISE.get(name, ("", []))
    if not value and option.choices:
        value = next(c for c in option.choices if c != option.default)
    elif not value and option.kind in (int, float):
        value = str(option.kind(option.minimum or option.maximum or 0) or option.kind(0))
    words = [f"--{name}"] if option.kind is bool else [f"--{name}={value or 'a'}"]
    for other in filter(None, (option.needs, option.applies and option.applies[0])):
        if option.applies and other == option.applies[0] and OPTIONS[other].kind is str:
            words += [f"--{other}={option.applies[1][0]}", *more_for(other)]
        elif not OPTIONS[other].default:
            words += [] if OPTIONS[other].kind is bool else words_for(other)
    return [*words, *more]


def more_for(name):
    return words_for(OPTIONS[name].needs) if OPTIONS[name].needs else []


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_accepted_by_a_verb_in_which_it_takes_effect(name):
    verb = verb_named(name)
    for option in verb.shared_options():
        words = [w for w in NEEDED.get(name, []) if option != "model_dir" or w != "m"]
        settings = verb.parse([*words, *words_for(option), *COMMAND.get(name, [])])[1]
        assert settings.is_chosen(option), option


@pytest.mark.parametrize("name", VERBS)
def test_every_other_option_is_rejected_by_name_with_what_to_do(name, capsys):
    verb = verb_named(name)
    own = verb.own_options()
    taken = {n for o in own.values() for n in (o.name, *o.aliases)} | set(verb.shared_options())
    rejected = [n for n in OPTIONS if n not in taken] if not verb.passes_on else []
    for option in rejected:
        words = [*NEEDED.get(name, []), words_for(option)[0], *COMMAND.get(name, [])]
        with pytest.raises(SystemExit, match="2"):
            main([name, *words])
        error = capsys.readouterr().err
        assert f"--{option}" in error and "Remove it" in error and error.count("\n") == 1


def test_every_option_takes_effect_in_some_verb_and_all_verbs_exist():
    for option in (*OPTIONS.values(), *FILE_OPTIONS.values()):
        assert option.verbs and set(option.verbs) <= set(VERBS), option.name


@pytest.mark.parametrize("name", VERBS)
def test_help_shows_own_arguments_first_and_only_what_takes_effect(name, capsys):
    verb = verb_named(name)
    assert main([name, "--help-all"]) == 0
    text = capsys.readouterr().out
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    flags = [word.removeprefix("--").rstrip(",") for word in shown if word.startswith("--")]
    assert set(flags) & set(OPTIONS) <= {*verb.own_options(), *verb.shared_options()}
    own = [n for n in verb.own_options() if n not in (*verb.positions, verb.rest)]
    assert flags[: len(own)] == own
    assert text.startswith(f"usage: tfic {name}") and f"example: tfic {name}" in text
    for position in verb.positions:
        shown = verb.all_options()[position].shown
        assert f"  {shown}, --{position}" in text


@pytest.mark.parametrize("name", VERBS)
def test_a_model_folder_is_a_position_or_a_flag(name):
    verb = verb_named(name)
    if "model_dir" not in verb.positions:
        return
    rest = [word for word in NEEDED.get(name, []) if word != "m"]
    for line in (["m", *rest], [*rest, "--model_dir", "m"], ["--model-dir=m", *rest]):
        assert verb.parse(line)[1].run.model_dir == "m", line
