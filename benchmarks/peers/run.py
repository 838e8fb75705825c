"""Train one framework on a folder of images; print its accuracy, time and files.

    python benchmarks/peers/run.py tfic trash --seed 1
    python benchmarks/peers/run.py fastai trash --epochs 20

``trash`` has ``train`` and ``val`` folders with one folder of images per class. Each framework runs
in the environment of the Python that starts this file; the requirements are beside it. Training
and prediction are separate processes, so the predictions come from the files that the training
left. Accuracy is computed here from the predictions, in the same way for each framework. Other
flags are passed to the training.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
TFIC = [sys.executable, "-m", "tf_image_classification"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=["tfic", "fastai", "ultralytics", "autogluon"])
    parser.add_argument("data", type=pathlib.Path, help="folder with train and val")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--output", type=pathlib.Path, help="new folder; runs/FRAMEWORK-SEED")
    given, flags = parser.parse_known_args()
    output = given.output or pathlib.Path("runs", f"{given.framework}-{given.seed}")
    output.mkdir(parents=True)
    data = given.data.resolve()
    train, predict = commands(given.framework, data, output.resolve(), given.seed, flags)
    measured = {"train": seconds(train, output / "train.log")}
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    (output / "files.txt").write_text("\n".join(files) + "\n", encoding="utf-8")
    measured["predict"] = seconds(predict, output / "predict.log")
    right, count = correct(data / "val", output / "predictions.csv")
    times = ", ".join(
        f"{name} {wall / 60:.1f} min ({cpu / 60:.1f} CPU min)"
        for name, (wall, cpu) in measured.items()
    )
    print(
        f"{given.framework} {' '.join(flags)} seed {given.seed}: {right} of {count} correct, "
        f"accuracy {right / count:.3f}; {times}; {len(files)} files"
    )


def commands(framework, data, output, seed, flags):
    """The commands that train and predict; the second one writes predictions.csv."""
    if framework == "tfic":
        model, found = str(output / "model"), str(output / "predictions.csv")
        return (
            [*TFIC, "train", str(data), "--seed", seed, "--model_dir", model, *flags],
            [*TFIC, "predict", model, str(data / "val"), "--output", found],
        )
    script = [sys.executable, str(HERE / f"with_{framework}.py")]
    return (
        [*script, "train", str(data), str(output), "--seed", seed, *flags],
        [*script, "predict", str(data), str(output)],
    )


def seconds(command, log):
    """Wall-clock and CPU seconds of a command and its processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(log, "wb") as stream:
        subprocess.run(command, check=True, stdout=stream, stderr=subprocess.STDOUT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu


def correct(folder, predictions):
    """How many images are predicted as the class of their folder, and how many there are."""
    with open(predictions, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    predicted = {"/".join(pathlib.PurePath(row["uri"]).parts[-2:]): row["label"] for row in rows}
    names = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    if names != predicted.keys():
        raise SystemExit(f"{predictions} has other images than {folder}")
    return sum(name.split("/")[0] == predicted[name] for name in names), len(names)


if __name__ == "__main__":
    main()
