"""What people type first, verb by verb: it works, or one line says what to type."""

import json
import os
import re

import pytest
import yaml

from tf_image_classification.cli import main
from tiny_runs import free_ports

EXAMPLE_RECORD = {"spec": "a:B", "spec_source": "", "train_data": "", "eval_data": ""}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data, a model folder, files of other programs and empty folders."""
    for folder in ("pets/cat", "empty", "saved", "runs/pets", "runs/cars", "with space"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("pets/cat/1.jpg", "cat.jpg", "model.keras", "weights.h5", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    for name in ("pets", "cars"):
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(EXAMPLE_RECORD))
    (tmp_path / "mine.py").write_text("print('mine')\n")
    (tmp_path / "mine.yml").write_text("epochs: 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def type_in(*words):
    """The status of the line, however it ends; anything but a status would be a traceback."""
    try:
        return main.main(list(words))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    "line",
    [
        "", "help", "-h", "--help", "help train", "help backbones", "version", "-V", "--version",
        "backbones --help", "train --help", "Backbones vgg", "find_learning_rate --help",
        "CHECK_SPEC --help", "evaluate -h", "tune --help", "help help",
    ],
)  # fmt: skip
def test_what_asks_for_something_harmless_is_answered(line, here, capsys):
    assert type_in(*line.split()) == 0
    captured = capsys.readouterr()
    assert captured.out and not captured.err


def test_help_of_a_verb_is_that_verbs_help(here, capsys):
    for line in ("help predict", "predict --help"):
        assert type_in(*line.split()) == 0
        assert capsys.readouterr().out.startswith("usage: tfic predict")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "Did you mean train?"),
        ("fit --backbone resnet50", "Write tfic train."),
        ("infer runs/pets cat.jpg", "Write tfic predict."),
        ("classify train data=pets model=yolo11n-cls.pt", "Write tfic train."),
        ("classify val model=best.pt", "Write tfic evaluate."),
        ("classify runs/pets cat.jpg", "Write tfic predict."),
        ("mine.py --epochs 3", "Write python mine.py --epochs 3, or tfic train --spec mine.py:C"),
        ("pets", "pets is not a verb. Write, for instance, tfic inspect pets"),
        ("--backbone resnet50", "--backbone stands before the verb"),
        ("help trian", "Did you mean train?"),
    ],
)
def test_what_is_no_verb_is_told_with_what_to_write(line, message, here, capsys):
    assert type_in(*line.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("verb", ["train", "preview", "find-batch-size"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine.py:Mine"], "For a spec write --spec mine.py:Mine."),
        (["mine.py"], "For a spec write --spec mine.py:Class"),
        (["mine.yml"], "For settings write --config mine.yml."),
        (["weights.h5"], "For weights write --checkpoint_path weights.h5."),
        (["image_size=3"], "Write --image_size=3."),
        (["--deterministic", "true"], "Write --deterministic=true, or --deterministic alone."),
        (["resnet50"], "Write --name value or --name=value"),
        (["--bach_size", "3"], "Unknown flag --bach_size. Did you mean batch_size"),
        (["--image_size", "large"], "image_size is 'large'"),
        (["--image_size"], "image_size"),
        (["--train_metadata"], "train_metadata has no value"),
        (["--config", "pets"], "pets cannot be read"),
        (["--config", "no.yml"], "no.yml cannot be read"),
        (["--config", "notes.txt"], "holds no settings"),
        (["--image_size", "--seed", "3"], "--image_size has no value. Write --image_size VALUE."),
        (["--seed="], "--seed= has no value"),
    ],
)
def test_what_belongs_to_no_flag_is_told_with_the_flag(verb, words, message, here, capsys):
    assert type_in(verb, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith(f"tfic {verb}: ")
    assert f"See tfic {verb} --help." in error


@pytest.mark.parametrize("words", ["no/such/folder", "pets/nothing*"])
def test_data_that_do_not_exist_are_an_error_of_every_verb_that_trains(words, here, capsys):
    for verb in ("train", "preview", "find-batch-size", "find-learning-rate"):
        assert type_in(verb, words) == 1
        error = capsys.readouterr().err
        assert error.startswith("DataError") and words in error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--train pets", "train_metadata: [pets]"),
        ("--data=pets", "train_metadata: [pets]"),
        ("pets --val pets", "eval_metadata: [pets]"),
        ("pets --batch 16", "batch_size: 16"),
        ("pets --imgsz=160", "image_size: 160"),
        ("pets --lr 0.01", "learning_rate: 0.01"),
        ("pets --model resnet50", "backbone: resnet50"),
        ("pets --arch resnet50 --opt momentum", "optimizer: momentum"),
        ("pets --augmentation rand", "augmentation: rand"),
        ("pets.csv --label_columns age", "label_columns: [age]"),
    ],
)
def test_short_forms_of_other_programs_are_accepted(line, expected, here, capsys):
    assert type_in("train", *line.split(), "--print_config") == 0
    assert f"\n{expected}" in capsys.readouterr().out


def test_a_short_form_and_its_option_cannot_both_be_given(here, capsys):
    assert type_in("train", "pets", "--lr", "1", "--learning_rate", "2") == 2
    assert "--lr and --learning_rate are two names of one setting" in capsys.readouterr().err


def test_data_is_the_evaluation_set_where_nothing_is_trained(here):
    from tf_image_classification.cli import evaluate

    _, settings, _ = evaluate.main.parse(["m", "--data", "pets"])
    assert settings.data.eval_metadata == ("pets",)


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_every_verb_knows_the_version(flag, capsys):
    assert type_in("train", flag) == 0
    assert capsys.readouterr().out.startswith("tfic 0.")


def test_help_is_short_and_help_all_complete(capsys):
    assert type_in("train", "--help") == 0
    short = capsys.readouterr().out
    assert "--epochs" in short and "--adam_beta1" not in short
    assert max(map(len, short.splitlines())) <= 80
    assert short.count("\n") < 80 and "further settings: tfic train --help-all" in short
    assert type_in("train", "--help-all") == 0
    assert "--adam_beta1" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_verbs_and_flags(shell, capsys):
    assert type_in("completion", shell) == 0
    script = capsys.readouterr().out
    assert "find-learning-rate" in script and "batch_size" in script


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["pets"], ["pets"]),
        (["~/pets/"], ["{here}/pets/"]),
        (["./pets", "--epochs", "3"], ["./pets"]),
        (["--epochs", "3", "pets"], ["pets"]),
        (["with space"], ["with space"]),
        (["a.csv", "b.csv", "--eval_metadata", "c.csv"], ["a.csv", "b.csv"]),
        (["records/train-*"], ["records/train-*"]),
        (["gs://bucket/pets"], ["gs://bucket/pets"]),
        (["tfds:mnist"], ["tfds:mnist"]),
        (["pets:train"], ["pets:train"]),
        (["shards-{0..3}.tar"], ["shards-{0..3}.tar"]),
        (["--spec", "mine.py:Mine", "pets"], ["pets"]),
    ],
)
def test_the_training_set_needs_no_flag(words, data, here, capsys):
    assert type_in("train", *words, "--print_config") == 0
    read = yaml.safe_load(capsys.readouterr().out)
    assert read["train_metadata"] == [path.replace("{here}", str(here)) for path in data]
    assert read.get("eval_metadata", ["c.csv"]) == ["c.csv"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict", "missing: MODEL_DIR, PATHS. Example: tfic predict runs/pets"),
        ("predict runs/pets", "missing: PATHS."),
        ("predict runs/pets cat.jpg --ouput o.csv", "Unknown flag --ouput. Did you mean output?"),
        ("predict runs/pets cat.jpg --top_k many", "top_k is 'many', expected a whole number"),
        ("predict runs/pets cat.jpg --top_k 0", "top_k is 0, expected a whole number of at least"),
        (
            "inspect pets/cat/1.jpg cat.jpg a b c",
            "'cat.jpg a b and 1 more' belongs to no flag. Quote a pat",
        ),
        ("convert pets", "missing: OUT"),
        ("convert a.jpg b.jpg c.jpg out", "'c.jpg out' belongs to no flag. Quote a pattern"),
        ("convert pets out --shardmb 3", "Unknown flag --shardmb. Did you mean shard_mb?"),
        ("serve runs/pets 8080", "'8080' belongs to no flag. Write --port 8080"),
        ("serve runs/pets --port http", "port is 'http', expected a whole number from 0 to 65535"),
        ("serve runs/pets --port 99999", "port is 99999, expected a whole number from 0 to 65535"),
        ("launch python mine.py", "missing: --workers"),
        ("launch --workers 2", "missing: COMMAND. Example: tfic launch"),
        ("submit", "missing: PLATFORM, COMMAND"),
        ("submit gke -- python mine.py", "platform is 'gke', expected one of vertex, kubernetes"),
        ("submit docker -- python mine.py", "missing: --output, --image"),
        (
            "submit docker --api tfjob -- python mine.py",
            "api (flag) has no effect with platform = ",
        ),
        ("compare runs/pets", "1 model is given (runs/pets), expected 2"),
        ("report", "missing: MODEL_DIR"),
        ("export runs/pets --format onx", "--format onx: Did you mean onnx?"),
        ("export --format onnx", "missing: MODEL_DIR"),
        ("predict cat.jpg runs/pets", "runs/pets is the model folder. Write it first"),
        ("convert pets out --split 0.8", "--split: '0.8' is not of the form name=fraction"),
        ("tune --trials 3", "missing: --space"),
        ("check-spec", "missing: SPEC"),
        ("train", "missing: DATA, the examples: a folder with one folder"),
        ("convert pets pets", "pets is the source itself"),
        ("convert pets ./runs/../pets/", "is the source itself"),
    ],
)
def test_a_usage_error_of_a_verb_is_one_line_with_status_2(line, message, here, capsys):
    assert type_in(*line.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert error.startswith(f"tfic {line.split()[0]}: ") and " --help." in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --backbone", "--backbone has no value. Write --backbone VALUE."),
        ("train --model_dir --backbone resnet50", "--model_dir has no value"),
        ("train -b 32", "Unknown flag -b. Use --batch_size."),
        ("train --output-dir=runs/x", "Unknown flag --output-dir. Use --model_dir."),
        ("train --resume", "The same command resumes an interrupted run."),
        ("train --mixup 0.2", "Did you mean mixup_alpha?"),
        ("train --val-split 0.2", "Use --eval_split."),
        ("train --device 0", "CUDA_VISIBLE_DEVICES in the environment selects some"),
        ("train --workers 8", "The input pipeline uses all cores. Remove it."),
        ("train --num-classes 3", "The classes are those of the training set. Remove it."),
        ("train --no-pretrained", "Use --checkpoint_path none."),
        ("train --pretrained", "Use --checkpoint_path."),
        ("train --base-model models/pets", "Use --from_model."),
        ("train --lr0 0.01", "Use --learning_rate."),
        ("train --model-ema", "Use --moving_average_decay."),
        ("train --clip-grad 1", "Use --gradient_clip_norm."),
        ("train --max_number_of_steps 1000", "Use --train_steps."),
        ("train --steps_per_epoch 100", "--train_steps sets the length in steps"),
        ("train --optimizer SGD", "Did you mean sgd"),
        ("train --optimizer AdamW", "Did you mean adamw"),
        ("train --kfold 5", "That is a verb: tfic cross-validate DATA --folds 5."),
        ("train --criterion focal", "losses() of a spec any"),
        ("train --focal_loss", "Use --loss focal; --focal_gamma sets its gamma."),
        ("train --asl", "Use --loss asymmetric"),
        ("train --tau 1", "Use --loss logit_adjusted"),
        ("evaluate runs/pets --split test", "Write the split after the path, e.g. pets:test."),
        ("predict runs/pets --source cat.jpg", "Use --paths."),
        ("predict runs/pets cat.jpg --conf 0.5", "Use --reject_below."),
        ("export runs/pets --format tfjs", "the nearest is --format web."),
        ("export runs/pets --format coreml", "the nearest is --format onnx."),
        ("export runs/pets --format onnx --int8", "Use --quantize."),
        ("train --inspect False", "Write --inspect=False, or --inspect alone."),
        ("train --image-size 224,224", "image_size is '224,224', expected a whole number"),
        ("train --optimizer Adam", "Did you mean adam"),
        ("train --spec mine.py:A --backbone b", "Give either a spec or a backbone"),
        ("train --epochs 3 --train-steps 100", "exclude each other"),
        (
            "train pets --spec mine.py:A --augmentation rand",
            "augmentation (flag) has no effect without backbone",
        ),
        (
            "preview pets --spec mine.py:A --crop_area 0.5",
            "crop_area (flag) has no effect without backbone",
        ),
        (
            "check-spec mine.py:A --train_metadata pets --dropout 0.1",
            "dropout (flag) has no effect without backbone",
        ),
        ("train --optimizer sgd --momentum 0.9", "has no effect with optimizer = sgd"),
        ("train help", "'help' belongs to no flag, and there is no such file or folder"),
        ("train pest", "there is no such file or folder. Did you mean pets?"),
        ("train pets resnet50", "'resnet50' belongs to no flag"),
        ("train pets mine.yml", "For settings write --config mine.yml."),
        ("train pets --train_metadata pets", "The training set is given twice, as 'pets' and by"),
        ("train --eval_metadata pets pets", "missing: DATA"),
        ("train pets --eval_split 20", "eval_split is 20.0, expected a number from 0 to 0.9"),
        ("train pets --eval_split=-0.1", "eval_split is -0.1, expected a number from 0 to 0.9"),
        ("evaluate --eval_metadata", "--eval_metadata has no value"),
        (
            "evaluate runs/pets pets",
            "'pets' belongs to no flag. For data write --eval_metadata pets.",
        ),
        (
            "evaluate runs/pets --learning-rate 0.1",
            "--learning-rate has no effect in tfic evaluate",
        ),
        ("evaluate runs/pets --keep-evaluation maybe", "expected one of auto, yes, no"),
        ("evaluate runs/pets --group-colum person", "Did you mean group_column?"),
        ("predict runs/pets cat.jpg --topk 3", "Use --top_k."),
        ("predict cat.jpg --model-dir=runs/pets --top-k=-1", "top_k is -1, expected"),
        ("predict runs/pets cat.jpg --no-calibrated=1", "--no-calibrated takes no value"),
        ("predict runs/pets cat.jpg --resume", "--resume continues a file. Give it with --output"),
        ("predict runs/pets cat.jpg --image_size 96", "--image_size has no effect in tfic predict"),
        ("predict --model_dir runs/pets --output o.txt cat.jpg", "expected a name ending in .csv"),
        ("export runs/pets", "missing: --format"),
        ("export runs/pets --format", "--format has no value"),
        ("export runs/pets --format=onnx,tf", "--format tf: Known: huggingface"),
        ("export runs/pets --format onnx --quantize int4", "Did you mean int8?"),
        (
            "export runs/pets --format onnx --max-accuracy-drop 0.1",
            "has no effect with --quantize none",
        ),
        ("export runs/pets --format onnx --train-metadata pets", "without --quantize int8"),
        ("export runs/pets --format onnx --spec mine.py:A", "without --format keras"),
        ("serve runs/pets --timeout-secs 0", "timeout_secs is 0.0, expected a number above 0"),
        ("serve runs/pets --max_batch_size 1.5", "max_batch_size is '1.5', expected a whole"),
        ("serve runs/pets --no-host", "Unknown flag --no-host. Did you mean host?"),
        ("report runs/pets --no-inspect --group-column", "--group-column has no value"),
        ("compare runs/pets runs/cars runs/x", "3 models are given"),
        ("convert pets --split train=1 --out", "--out has no value"),
        ("submit vertex -- python x.py", "missing: --config"),
    ],
)
def test_what_a_stranger_types_ends_with_status_2_and_what_to_write(line, message, here, capsys):
    assert type_in(*line.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert error.startswith(f"tfic {line.split()[0]}: ") and " --help." in error


@pytest.mark.parametrize(
    "line",
    [
        "train --epochs -h", "train --backbone b -h --nonsense", "predict runs/pets -h cat.jpg",
        "evaluate --spec mine.py:A -h", "convert --help pets", "check-spec mine.py:A --help",
        "launch --workers 2 -h -- python x.py", "submit vertex --help", "export --format -help",
    ],
)  # fmt: skip
def test_help_anywhere_in_a_line_is_answered(line, here, capsys):
    assert type_in(*line.split()) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"usage: tfic {line.split()[0]}") and not captured.err


@pytest.mark.parametrize(
    ("line", "folder", "data"),
    [
        ("runs/pets --eval-metadata pets/a pets/b", "runs/pets", ("pets/a", "pets/b")),
        ("--eval_metadata pets/a pets/b runs/pets", "runs/pets", ("pets/a", "pets/b")),
        ("--eval_metadata=pets/a runs/pets", "runs/pets", ("pets/a",)),
        ("--eval_metadata pets/a pets/b --model-dir=runs/pets", "runs/pets", ("pets/a", "pets/b")),
        ("--eval_metadata pets/a pets/b", "./models", ("pets/a", "pets/b")),
        (
            "--eval_metadata pets/a --seed 3 --eval_metadata pets/b",
            "./models",
            ("pets/a", "pets/b"),
        ),
    ],
)
def test_all_words_after_a_list_are_its_values_but_a_model_folder(line, folder, data, here):
    from tf_image_classification.cli import evaluate

    _, settings, _ = evaluate.main.parse(line.split())
    assert settings.run.model_dir == folder
    assert settings.data.eval_metadata == data


def test_of_a_flag_that_is_given_twice_the_last_value_counts(here, capsys):
    assert type_in("train", "--batch_size=32", "--batch-size", "16", "--print_config") == 0
    assert "\nbatch_size: 16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("submit docker --output o --image i -- bash run.sh", "Expected python SCRIPT.py"),
        ("inspect pets --page empty", "--page empty is a folder. Name a file in it."),
        ("inspect pets --json cat.jpg/x", "cannot be written"),
        ("report runs/pets --output empty", "--output empty is a folder"),
        ("compare runs/pets runs/cars --json empty", "--json empty is a folder"),
        ("preview --backbone resnet50 --output empty", "--output empty is a folder"),
        ("convert pets\\cat out", "Did you mean 'pets/cat'?"),
        ("backbones zzz", "No backbone has a name like zzz"),
    ],
)
def test_a_line_that_cannot_work_is_told_at_once(line, message, here, capsys):
    assert type_in(*line.split()) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


WRONG_FOLDERS = {
    "model.keras": "'model.keras' is a file of weights, not a model folder. .*--checkpoint_path",
    "notes.txt": "'notes.txt' is a file, not a model folder",
    "empty": "'empty' is an empty folder",
    "runs": r"'runs' contains model folders. Give one of them: runs/cars, runs/pets\.",
    "saved": "'saved' is a SavedModel without the run's manifest",
    "pets": "'pets' is not a model folder: it has no run.json",
    "no/such": "'no/such' is not there",
    "runs/pets/saved_model": r"is a part of a model folder. Give the folder itself: runs/pets\.",
    "runs/pets/light/model.tflite": r"is a part of a model folder. .* itself: runs/pets\.",
    "runs/pets/run.json": r"is a part of a model folder. Give the folder itself: runs/pets\.",
    "": "'' is not there",
}


LINES_WITH_A_FOLDER = (
    "predict {} cat.jpg", "serve {} --name x", "report {}", "export {} --format onnx",
    "evaluate --model_dir {}", "evaluate {}", "compare {} runs/pets",
)  # fmt: skip
# For these an empty word is as good as none.
NAMELESS = ()


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        (folder, line)
        for folder in WRONG_FOLDERS
        for line in LINES_WITH_A_FOLDER
        if folder or line not in NAMELESS
        if not (folder.endswith(".tflite") and line.startswith("compare"))  # it runs files
    ],
)
def test_a_folder_that_is_no_model_folder_is_told_what_it_is(
    folder, line, here, monkeypatch, capsys
):
    monkeypatch.setenv("AIP_HTTP_PORT", str(free_ports(1)[0]))
    words = [word.format(folder) for word in line.split(" ")]
    assert type_in(*words) == 1
    error = capsys.readouterr().err
    assert re.search(WRONG_FOLDERS[folder], error), error
    assert error.count("\n") == 1 and error.startswith("CheckpointError: ")


def test_dashes_and_tildes_are_read_like_underscores_and_the_home_folder(here, capsys):
    for line in (
        ["--batch-size", "3", "--model-dir", "~/runs/pets", "--train-metadata=~/pets"],
        ["--batch_size=3", "--model_dir=~/runs/pets", "--train_metadata", "~/pets"],
    ):
        assert type_in("train", "--print-config", *line) == 0
        out = capsys.readouterr().out
        assert "batch_size: 3" in out and f"model_dir: {here}/runs/pets" in out
        assert f"train_metadata: [{here}/pets]" in out
    (here / "home.yml").write_text("model_dir: ~/m\ntrain_metadata: [~/a, b]\ninspect: false\n")
    assert type_in("train", "--config", "~/home.yml", "--no-deterministic", "--print_config") == 0
    out = capsys.readouterr().out
    assert f"model_dir: {here}/m" in out and f"train_metadata: [{here}/a, b]" in out
    assert "deterministic: false" in out


def test_flags_of_a_command_after_two_dashes_are_its_own(here, monkeypatch, capsys):
    from tf_image_classification.cli import launch

    commands = []
    monkeypatch.setattr(launch, "launch", lambda command, **how: commands.append([*command]) or 0)
    own = ["python", "x.py", "--my-flag", "~/a", "b,c"]
    assert type_in("launch", "--max-restarts", "1", "--workers", "2", "--", *own) == 0
    assert type_in("launch", "--workers", "2", *own) == 0
    assert commands == [own, own]


@pytest.mark.parametrize(
    "line",
    [
        "{} cat.jpg --output o.csv", "cat.jpg --model_dir {} --output o.csv",
        "--model-dir={} cat.jpg --output o.csv", "--output=o.csv {} cat.jpg",
        "./{}/ cat.jpg --output ./o.csv", "../{here}/{} cat.jpg --output with space/o.csv",
    ],
)  # fmt: skip
def test_the_model_folder_is_found_in_every_form_of_a_path(line, here, monkeypatch, capsys):
    from tf_image_classification.serving import predictor

    class FoundError(Exception):
        """With the folder that would be loaded."""

    def load(folder, **_):
        raise FoundError(os.path.abspath(folder))

    monkeypatch.setattr(predictor, "load_model", load)
    words = [w.replace("+", " ") for w in line.replace("with space", "with+space").split()]
    words = [word.format("runs/pets", here=here.name) for word in words]
    with pytest.raises(FoundError, match=f"^{here}/runs/pets$"):
        main.main(["predict", *words])


@pytest.mark.parametrize(
    ("line", "formats"),
    [
        ("runs/pets --format onnx litert", ["onnx", "litert"]),
        ("--format onnx,litert runs/pets", ["onnx", "litert"]),
        ("--format ONNX runs/pets", ["onnx"]),
        ("--model_dir runs/pets --format tflite", ["litert"]),
        ("--format=savedmodel runs/pets", ["saved_model"]),
    ],
)
def test_formats_of_an_export_are_read_as_they_are_written(line, formats, here, monkeypatch):
    from tf_image_classification.export.request import ExportRequest
    from tf_image_classification.workflows import export

    checked = []
    monkeypatch.setattr(ExportRequest, "check", lambda self, **_: checked.append(self.format))
    monkeypatch.setattr(export, "export_folder", None)
    with pytest.raises(TypeError):  # after all formats were checked
        main.main(["export", *line.split()])
    assert checked == formats
