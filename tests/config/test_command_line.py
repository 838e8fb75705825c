"""The command line: arguments to flags to settings, and settings to text."""

import pytest
from absl import flags

from tf_image_classification import train_estimator
from tf_image_classification.config import ALIASES, OPTIONS, command_line
from tf_image_classification.config.groups import FILE_OPTIONS
from tf_image_classification.errors import UsageError


def settings_of(*arguments):
    values = flags.FlagValues()
    command_line.define_flags(values)
    command_line.parse(arguments, values)
    return command_line.settings_from(values)


def refused(*arguments):
    with pytest.raises(UsageError) as caught:
        settings_of(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("argument", ["--noplan=true", "--no_plan=true", "--no-plan="])
def test_a_switch_that_is_turned_off_takes_no_value(argument):
    assert refused(argument) == f"{argument.partition('=')[0]} takes no value."


@pytest.mark.parametrize("name", ["progress", "print_config"])
@pytest.mark.parametrize("value", ["maybe", "", "a(b"])
def test_a_switch_is_true_or_false(name, value):
    expected = f"--{name} is {value!r}, expected true or false."
    assert refused(f"--{name}={value}") == expected


# --- lists -----------------------------------------------------------------------------------


def test_every_file_of_an_expanded_glob_belongs_to_the_flag_before_it():
    data = settings_of(
        *("--train_metadata", "t1", "t2", "t3", "--batch_size", "2"),
        *("--eval_metadata", "e1", "e2", "--labels", "a=l1", "b=l2", "--debug"),
    ).data
    assert data.train_metadata == ("t1", "t2", "t3")
    assert data.eval_metadata == ("e1", "e2")
    assert data.labels == ("a=l1", "b=l2")
    assert data.batch_size == 2


def test_values_may_follow_the_form_with_an_equals_sign():
    data = settings_of("--train_metadata=t1", "t2", "--train_metadata", "t3", "-eval_metadata=e")
    assert data.data.train_metadata == ("t1", "t2", "t3")
    assert data.data.eval_metadata == ("e",)


@pytest.mark.parametrize("form", ["--noinspect", "--no_inspect", "--no-inspect", "--inspect=false"])
def test_a_switch_is_turned_off(form):
    assert settings_of().data.inspect
    assert not settings_of(form).data.inspect
    with pytest.raises(UsageError, match="Unknown flag --no_batch_size"):
        settings_of("--no_batch_size")


@pytest.mark.parametrize("name", sorted(n for n, o in OPTIONS.items() if o.kind is tuple))
def test_every_list_takes_several_values(name):
    values = ["a=1", "b=2"] if name in ("labels", "label_features") else ["a", "b"]
    needed = {"checkpoint": ["--checkpoint_path", "c"], "label_": ["--backbone", "b"]}
    extra = [part for start, parts in needed.items() if name.startswith(start) for part in parts]
    extra = [] if name == "label_features" else extra
    assert settings_of(*extra, f"--{name}", *values).values()[name] == tuple(values)


def test_names_of_files_keep_their_commas_and_scopes_are_split_at_them():
    settings = settings_of("--train_metadata", "a,b.csv", "--trainable_scopes", "head, tail", "x")
    assert settings.data.train_metadata == ("a,b.csv",)
    assert settings.model.trainable_scopes == ("head", "tail", "x")


@pytest.mark.parametrize(
    "line",
    [
        ["--train_metadata"],
        ["--train_metadata", "--seed", "1"],
        ["--seed", "1", "--eval_metadata"],
    ],
)
def test_a_list_without_a_value_is_refused(line):
    assert "has no value" in refused(*line)


def test_an_argument_that_belongs_to_no_flag_is_refused():
    assert "'train2' belongs to no flag" in refused("--seed", "1", "train2")
    assert "'false' belongs to no flag" in refused("--debug", "false")
    assert "belongs to no flag" in refused("--seed", "1", "--", "x")


def test_a_minus_sign_may_begin_a_value():
    settings = settings_of("--keep_checkpoint_max", "-1", "--optimizer", "ftrl")
    assert settings.checkpoints.keep_checkpoint_max == -1
    settings = settings_of("--optimizer=ftrl", "--ftrl_learning_rate_power", "-0.25")
    assert settings.optimizer.ftrl_learning_rate_power == -0.25


# --- flags -----------------------------------------------------------------------------------


def test_each_setting_is_a_flag_of_its_own_type():
    for option in OPTIONS.values():
        if option.kind is bool:
            extra = {
                "nesterov": ["--optimizer", "momentum"],
                "checkpoint_averages": ["--checkpoint_path", "c"],
                "head_phase": ["--checkpoint_path", "c"],
            }.get(option.name, [])
            for flag, value in ((f"--{option.name}", True), (f"--no{option.name}", False)):
                assert settings_of(*extra, flag).values()[option.name] is value
    assert settings_of("--learning_rate", "0.00001").schedule.learning_rate == 1e-5
    assert settings_of("--train_steps", "10000").training.train_steps == 10000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--bach_size", "3"], "Did you mean batch_size"),
        (["--warm_start_ckp", "3"], "Did you mean warm_start_ckpt"),
        (["--confg", "3"], "Did you mean config"),
        (["--batch_size", "many"], "batch_size is 'many', expected a whole number of at least 1."),
        (["--learning_rate", "x"], "learning_rate is 'x', expected a number of at least 0."),
        (["--hlep"], "Unknown flag --hlep. Did you mean help?"),
        (["--best_mode", "quux"], "expected one of auto, max, min."),
        (["--batch_size"], "batch_size"),
        (["--batch_size", "0"], "at least 1"),
        (["--debug=maybe"], "debug"),
        (["--optimizer", "adm"], "Did you mean adam"),
        (["--adam_beta1", ".5", "--optimizer", "sgd"], "adam_beta1 (flag) has no effect"),
        (["--epochs", "1", "--train_steps", "2"], "exclude each other"),
        (["--plan", "--evaluate"], "exclude each other"),
        (["--keep_checkpoint_max", "0"], "1 or more, or -1 for all"),
        (["--checkpoint_path", "a", "--warm_start_ckpt", "b"], "two names"),
    ],
)
def test_a_wrong_flag_or_value_says_what_is_meant(line, expected):
    assert expected in refused(*line)


def test_a_second_command_line_forgets_the_first():
    values = flags.FlagValues()
    command_line.define_flags(values)
    command_line.parse(["--train_metadata", "a", "--epochs", "3", "--debug"], values)
    command_line.parse(["--train_metadata", "b"], values)
    settings = command_line.settings_from(values)
    assert settings.data.train_metadata == ("b",)
    assert settings.training.epochs is None and settings.run.debug is False


def test_an_alias_sets_its_setting():
    assert settings_of("--warm_start_ckpt", "p").model.checkpoint_path == "p"


def test_the_flags_of_tensorflow_and_absl_are_left_alone():
    import tensorflow  # noqa: F401

    home = "tf_image_classification.config.command_line"
    for name in [*OPTIONS, *ALIASES, *FILE_OPTIONS]:
        assert train_estimator.FLAGS.find_module_defining_flag(name).endswith(home), name
    command_line.define_flags(train_estimator.FLAGS)  # a second time does nothing


def test_a_users_own_flags_work_beside_ours_and_are_suggested():
    values = flags.FlagValues()
    flags.DEFINE_string("mnist_dir", "", "Folder.", flag_values=values)
    command_line.define_flags(values)
    command_line.parse(["--mnist_dir", "m", "--train_metadata", "a", "b", "--seed=3"], values)
    settings = command_line.settings_from(values)
    assert (values.mnist_dir, settings.data.train_metadata) == ("m", ("a", "b"))
    assert settings.run.seed == 3
    with pytest.raises(UsageError, match="mnist_dir"):
        command_line.parse(["--mnist_dr", "m"], values)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_programs_own_flag_of_a_name_of_2018_is_an_error_at_once_as_then(is_first):
    values = flags.FlagValues()
    definitions = [
        lambda: flags.DEFINE_integer("batch_size", 1, "The program's.", flag_values=values),
        lambda: command_line.define_flags(values),
    ]
    first, second = definitions if is_first else reversed(definitions)
    first()
    with pytest.raises(flags.DuplicateFlagError, match="batch_size"):
        second()


def defined_by_program(is_first, define):
    """Flags of a program that defines some of its own before or after ours."""
    values = flags.FlagValues()
    if not is_first:
        command_line.define_flags(values)
    define(values)
    command_line.define_flags(values)
    return values


@pytest.mark.parametrize("is_first", [True, False])
def test_a_programs_own_evaluate_labels_and_output_cm_folder_set_ours_too(is_first):
    def define(values):
        flags.DEFINE_boolean("evaluate", False, "Evaluation mode", flag_values=values)
        flags.DEFINE_string("labels", None, "File of labels", flag_values=values)
        flags.DEFINE_string("output_cm_folder", "cm", "Folder", flag_values=values)

    values = defined_by_program(is_first, define)
    command_line.parse(["--eval_metadata", "e1", "e2"], values)
    settings = command_line.settings_from(values)
    assert (settings.run.evaluate, settings.data.labels) == (False, ())
    assert settings.origin("labels") == settings.origin("evaluate") == "default"
    assert settings.evaluation.output_cm_folder == "cm"  # the program's own default
    command_line.parse(["--evaluate", "--labels", "l.txt", "--eval_metadata", "e"], values)
    settings = command_line.settings_from(values)
    assert settings.run.evaluate and settings.data.labels == ("l.txt",)
    assert (values["evaluate"].value, values["labels"].value) == (True, "l.txt")


@pytest.mark.parametrize("is_first", [True, False])
def test_another_flag_of_a_program_is_the_programs_alone(is_first):
    def define(values):
        flags.DEFINE_float("dropout", 0.5, "Of the program's network", flag_values=values)
        flags.DEFINE_integer("epochs", 3, "Of the program's report", flag_values=values)
        flags.DEFINE_string("config", None, "Of the program", flag_values=values)

    values = defined_by_program(is_first, define)
    command_line.parse(["--dropout", "0.25", "--epochs", "7", "--config", "own.json"], values)
    settings = command_line.settings_from(values)
    assert settings.backbone_spec.dropout == OPTIONS["dropout"].default
    assert settings.training.epochs is None
    assert values["dropout"].value == 0.25 and values["epochs"].value == 7
    assert command_line.hidden_options(values) == ["config", "dropout", "epochs"]
    command_line.parse([], values)
    assert command_line.hidden_options(values) == []


def test_a_program_reads_resolved_settings_from_its_flags(tmp_path):
    (tmp_path / "run.yml").write_text("batch_size: 5\n")
    values = flags.FlagValues()
    command_line.define_flags(values)
    command_line.parse(["--config", str(tmp_path / "run.yml"), "--train_metadata", "t"], values)
    settings = command_line.settings_from(values)
    assert values["batch_size"].value == 5  # of the file
    assert values["image_size"].value == settings.data.image_size  # of the default
    assert values["train_metadata"].value == ["t"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--shuffle"], "Unknown flag --shuffle. Examples are shuffled; --debug keeps"),
        (["--noshuffle"], "--debug keeps their order"),
        (["--sync_replicas"], "Workers always train synchronously"),
        (["--job-dir", "gs://b"], "Unknown flag --job-dir. Use --model_dir."),
    ],
)
def test_a_flag_of_2018_that_is_gone_is_told_what_takes_its_place(line, expected):
    assert expected in refused(*line)


# --- the settings file -----------------------------------------------------------------------


def test_flags_take_precedence_over_the_file(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text("batch_size: 5\nlearning_rate: 1e-2\ntrain_metadata: [a, 'b,c']\nepochs: 2\n")
    settings = settings_of("--config", str(path), "--batch_size", "6", "--train_steps", "9")
    assert (settings.data.batch_size, settings.schedule.learning_rate) == (6, 0.01)
    assert settings.data.train_metadata == ("a", "b,c")
    assert (settings.training.train_steps, settings.training.epochs) == (9, None)
    assert settings.origin("learning_rate") == str(path)
    assert settings.origin("batch_size") == "flag"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size: [", "is not YAML"),
        ("- batch_size", "holds no settings"),
        ("", "holds no settings"),
        ("bach_size: 3", "Did you mean batch_size"),
        ("batch_size: three", "a whole number"),
        ("batch_size: 3\nbatch_size: 4", "'batch_size' is given twice"),
        ("epochs: 3\ntrain_steps: 4", "exclude each other"),
        ("warm_start_ckpt: 3\ncheckpoint_path: 4", "two names"),
        ("momentum: 0.5", "has no effect"),
        ("3: 4", "Unknown setting 3"),
        ("model_dir: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_settings_file_that_is_wrong_is_refused_by_name(tmp_path, text, expected):
    path = tmp_path / "run.yml"
    path.write_text(text)
    message = refused("--config", str(path))
    assert expected in message
    assert "run.yml" in message or "expected" in message


def test_a_settings_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    assert "cannot be read" in refused("--config", str(tmp_path / "absent.yml"))
    assert "cannot be read" in refused("--config", str(tmp_path))
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\x00a")
    assert "bytes.yml is not UTF-8" in refused("--config", str(tmp_path / "bytes.yml"))


def test_printed_settings_are_a_file_for_the_same_run(tmp_path):
    line = (
        *("--train_metadata", "a b", "#c: [d]", "--eval_metadata", "é", "--eval_every_steps", "3"),
        *(
            "--optimizer",
            "momentum",
            "--momentum",
            "0.5",
            "--nodeterministic",
            "--train_steps",
            "7",
        ),
    )
    settings = settings_of(*line)
    text = command_line.settings_text(settings)
    path = tmp_path / "printed.yml"
    path.write_text(text, encoding="utf-8")
    assert settings_of("--config", str(path)).values() == settings.values()
    assert len(text.splitlines()) == len(OPTIONS)
    lines = {line.lstrip("# ").split(":")[0]: line for line in text.splitlines()}
    assert lines["momentum"].startswith("momentum: 0.5 ") and lines["momentum"].endswith("# flag")
    assert lines["seed"].startswith("# seed: 0 ") and lines["seed"].endswith("# default")


# --- words -----------------------------------------------------------------------------------


def test_help_lists_every_flag_with_its_default_and_meaning():
    groups = command_line.by_group([*OPTIONS.values(), *FILE_OPTIONS.values()])
    text = command_line.help_text("usage: x [flags]", groups)
    assert text.startswith("usage: x [flags]")
    flat = " ".join(text.split())
    for option in OPTIONS.values():
        assert f"--{option.name}" in flat
        assert " ".join(option.help.split()) in flat
        for choice in option.choices:
            assert choice in flat
    for name in [*ALIASES, *FILE_OPTIONS]:
        assert f"--{name}" in flat
    assert max(map(len, text.splitlines())) <= 100


# --- the environment ---------------------------------------------------------------------------


VERTEX = {
    "AIP_MODEL_DIR": "gs://b/job/model/",
    "AIP_CHECKPOINT_DIR": "gs://b/job/checkpoints/",
    "AIP_TENSORBOARD_LOG_DIR": "gs://b/job/logs/",
}


def settings_in(environment, *arguments):
    values = flags.FlagValues()
    command_line.define_flags(values)
    command_line.parse(arguments, values)
    return command_line.settings_from(values, environment)


def test_the_folders_of_a_vertex_job_are_those_of_the_run():
    settings = settings_in(VERTEX)
    assert settings.run.model_dir == "gs://b/job"
    assert settings.checkpoints.export_dir == "gs://b/job/model"
    assert settings.checkpoints.tensorboard_dir == "gs://b/job/logs"
    assert settings.origin("model_dir") == "environment"


def test_flags_take_precedence_over_the_environment():
    settings = settings_in(VERTEX, "--model_dir", "gs://b/mine", "--tensorboard_dir", "gs://b/t")
    assert settings.run.model_dir == "gs://b/mine"
    assert settings.checkpoints.tensorboard_dir == "gs://b/t"
    assert settings.checkpoints.export_dir == "gs://b/job/model"


def test_what_the_environment_gives_needs_no_effect_but_what_a_flag_gives_does():
    assert not settings_in(VERTEX, "--noexport_saved_model").checkpoints.export_saved_model
    assert not settings_in(VERTEX, "--save_summary_steps", "0").checkpoints.save_summary_steps
    assert "export_dir (flag) has no effect" in refused(
        "--noexport_saved_model", "--export_dir", "x"
    )
    assert "tensorboard_dir (flag) has no effect" in refused(
        "--save_summary_steps", "0", "--tensorboard_dir", "x"
    )
