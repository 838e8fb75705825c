"""What training methods change in balanced accuracy: paired runs over several seeds.

    python benchmarks/training_methods.py --pictures FOLDER [--test FOLDER] --methods loss=focal sam_rho=0.05
        [--per_class 200 --imbalance 20] [--seeds 5] [--settings image_size=96 epochs=4]

FOLDER has a folder of images for each class. For each seed, three tenths of each class are drawn for
the evaluation, or as many images as for training (at most 50 of each class) from the folder --test;
of the others --per_class of the first class are kept for training, and fewer of each further class,
down to a --imbalance-th of that in the last one (as Cui et al., arXiv 1901.05555, make CIFAR
long-tailed). Every method and "recipe", the run without one, see the same images and the same seed.
A method is OPTION=VALUE[,OPTION=VALUE...] of tfic train; or combine=HOW, the model that tfic combine
makes of that run and one with another seed; or teacher=both, a run that learns from these two.
--settings hold for all runs. The interval of the difference is
Student's, over the seeds.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

EVAL_FRACTION = 0.3
MAX_TEST = 50  # images of a class


def pictures_of(folder):
    """Paths by class name."""
    names = sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n)))
    return {
        name: sorted(entry.path for entry in os.scandir(os.path.join(folder, name)))
        for name in names
    }


def split(options, seed):
    """Rows (path, class) to train and to evaluate on."""
    draw = random.Random(seed)
    of_class, test = pictures_of(options.pictures), options.test and pictures_of(options.test)
    train, evaluation = [], []
    for number, (name, paths) in enumerate(of_class.items()):
        draw.shuffle(paths)
        held = round(EVAL_FRACTION * len(paths))
        kept, shown = paths[held:], paths[:held]
        if test:
            kept, shown = paths, draw.sample(test[name], MAX_TEST)
        if options.per_class:
            tail = options.imbalance ** (-number / (len(of_class) - 1))
            kept = kept[: max(2, round(options.per_class * tail))]
        train += [(path, name) for path in kept]
        evaluation += [(path, name) for path in shown]
    return train, evaluation


def write_table(path, rows):
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("URIs,labels\n")
        stream.writelines(f'"{file}",{name}\n' for file, name in rows)
    return path


def read(pairs):
    """Options by name; numbers and switches as such."""
    import yaml

    return {name: yaml.safe_load(value) for name, value in (pair.split("=") for pair in pairs)}


class Runs:
    """The trainings of one seed; those that several methods need are trained once."""

    def __init__(self, options, seed, rows, folder):
        self.options, self.seed, self.folder = options, seed, folder
        self.train = write_table(f"{folder}/train.csv", rows[0])
        self.eval = write_table(f"{folder}/eval.csv", rows[1])
        self.exports = any(method.startswith(("combine", "teacher")) for method in options.methods)
        self.both = []

    def score(self, method):
        """The balanced accuracy of a method."""
        if method == "recipe":
            self.both = [self.run("recipe")]
            return self.both[0].metrics["balanced_accuracy"]
        given = read(method.split(","))
        if "combine" in given or given.get("teacher") == "both":
            if len(self.both) < 2:
                self.both.append(self.run("another seed", is_other=True))
            folders = [model.model_dir for model in self.both]
            if "combine" in given:
                return self.combined(folders, given["combine"])
            given["teacher"] = folders
        return self.run(method, **given).metrics["balanced_accuracy"]

    def combined(self, folders, how):
        import tf_image_classification as tfic

        model = tfic.combine(folders, os.path.join(self.folder, how), how=how)
        return model.evaluate().metrics["balanced_accuracy"]

    def run(self, name, *, is_other=False, **given):
        import tf_image_classification as tfic

        common = {"seed": self.seed + 100 * is_other, "export_saved_model": self.exports and not given}
        return tfic.train(
            self.train,
            eval_metadata=self.eval,
            model_dir=os.path.join(self.folder, name.replace("/", "_")),
            progress=False,
            inspect=False,
            best_metric="balanced_accuracy",
            eval_every_steps=10**6,  # at the end alone
            **common | read(self.options.settings) | given,
        )


def interval(gains):
    """Mean and 95 % interval of paired differences."""
    from scipy import stats

    mean = statistics.mean(gains)
    if len(gains) < 2:
        return mean, float("nan"), float("nan")
    margin = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    return mean, mean - margin, mean + margin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--test", default="")
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--per_class", type=int, default=0)
    parser.add_argument("--imbalance", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--settings", nargs="*", default=["image_size=96", "epochs=4"])
    options = parser.parse_args()
    found = {method: [] for method in ("recipe", *options.methods)}
    for seed in range(options.seeds):
        rows = split(options, seed)
        with tempfile.TemporaryDirectory() as folder:
            runs = Runs(options, seed, rows, folder)
            for method, values in found.items():
                values.append(runs.score(method))
                print(f"RESULT seed {seed}, {method}: {values[-1]:.3f}", flush=True)
        line = ", ".join(f"{name} {values[-1]:.3f}" for name, values in found.items())
        print(f"RESULT seed {seed} ({len(rows[0])} training images, {len(rows[1])} of evaluation): {line}",
              flush=True)  # fmt: skip
    for method in options.methods:
        gains = [a - b for a, b in zip(found[method], found["recipe"], strict=True)]
        mean, low, high = interval(gains)
        print(
            f"RESULT {method}: balanced accuracy {statistics.mean(found[method]):.3f}, recipe "
            f"{statistics.mean(found['recipe']):.3f}, difference {mean:+.3f} "
            f"(95 % CI {low:+.3f} to {high:+.3f})"
        )


if __name__ == "__main__":
    main()
