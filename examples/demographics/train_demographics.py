"""Age and perceived gender from face images, with errors by slice.

    cd examples/demographics
    python train_demographics.py                      drawn faces, no download
    python train_demographics.py --faces FOLDER       age_gender_group_date.jpg
    python train_demographics.py --faces faces.csv    URIs,age,gender,person,...
    python train_demographics.py --tasks age          without gender

Nobody is in two of the three parts. The holdout chooses the checkpoint; the test set is looked at
once, at the end, by slice.
"""

from __future__ import annotations

import argparse
import os

import drawn_faces
import face_table
import slices
from demographics_spec import SMALL, DemographicsSpec

from tf_image_classification import train_estimator
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels.schema import CODINGS
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process

HERE = os.path.dirname(os.path.abspath(__file__))
BEST = {"age": "age/mean_absolute_error", "gender": "gender/accuracy"}
MARKS = ("<!-- measured -->", "<!-- end of measured -->")


def main():
    """Read or draw faces, train or resume, and measure the test set."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--faces", default="")  # a folder or a CSV; empty: faces are drawn
    parser.add_argument(
        "--tables_dir", default="./demographics"
    )  # drawn faces, and the three parts
    parser.add_argument("--num_people", type=int, default=1500)  # that are drawn
    parser.add_argument("--tasks", default="age,gender")
    parser.add_argument("--age_coding", default="distribution", choices=CODINGS)
    parser.add_argument("--network", default=SMALL)  # or the name of a backbone
    parser.add_argument("--card", default="")  # file whose table of errors is written anew
    own, arguments = parser.parse_known_args()
    tasks = [task.strip() for task in own.tasks.split(",") if task.strip()]
    if not tasks or set(tasks) - set(BEST):
        raise ConfigError(f"--tasks {own.tasks}: expected age, gender or age,gender.")
    spec = DemographicsSpec(tasks, own.age_coding, own.network)
    tables = {name: os.path.join(own.tables_dir, f"{name}.csv") for name in face_table.PARTS}
    if not any(argument.startswith("--config") for argument in arguments):
        arguments = ["--config", os.path.join(HERE, "faces.yml"), *arguments]
    settings = train_estimator.settings_of_command_line(
        ["--train_metadata", tables["train"], "--eval_metadata", tables["holdout"], *arguments]
    )
    if settings.origin("best_metric") == "default":
        settings = settings.replace(best_metric=BEST[tasks[0]])
    workers = train_estimator.join(settings)  # before TensorFlow is used
    if workers.is_writer:
        write_tables(own)
    workers.wait_for_all()
    train_estimator.train(spec, settings)
    has_model = settings.checkpoints.export_saved_model and not settings.run.plan
    if workers.is_writer and has_model:
        measure(spec, settings, tables["test"], own.card)


def write_tables(own):
    """The three CSVs, from faces that are given or drawn; says what was read and left out."""
    source = own.faces or drawn_faces.write_faces(
        os.path.join(own.tables_dir, f"drawn-{own.num_people}"), num_people=own.num_people
    )
    read = face_table.read_csv if source.endswith(".csv") else face_table.read_folder
    faces, problems = read(source)
    face_table.write_tables(faces, own.tables_dir)
    print(face_table.describe(faces, problems))


def measure(spec, settings, test_table, card):
    """Errors of the exported model on the test set by slice, printed and kept beside the model."""
    faces, _ = face_table.read_csv(test_table)
    predictions = slices.predict(files.join(settings.run.model_dir, "saved_model"), faces)
    table = slices.table(slices.by_slice(spec, faces, predictions))
    path = files.join(settings.run.model_dir, "slices.md")
    files.write_bytes(path, f"{table}\n".encode())
    print(f"\ntest set, which chose nothing:\n{table}\n\nslices:        {path}")
    if card:
        text = files.read_text(card)
        before, found, rest = text.partition(MARKS[0])
        if not found or MARKS[1] not in rest:
            raise ConfigError(
                f"--card {card}: no lines {MARKS[0]} and {MARKS[1]} to write between."
            )
        after = rest.partition(MARKS[1])[2]
        text = f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}"
        files.write_bytes(card, text.encode())


if __name__ == "__main__":
    with ends_the_process():
        main()
