"""What training methods change in balanced accuracy, on fixed features: paired over many seeds.

    python benchmarks/training_methods.py --pictures FOLDER
    python benchmarks/training_methods.py --pictures TRAIN --test TEST
        --per_class 120 --imbalance 20

FOLDER has a folder of images for each class. A head of two layers is trained on the features of
EfficientNet-Lite 0 with ImageNet weights, by the training step of tfic train, once with plain
cross-entropy and once with each method. For each seed, three tenths of each class are drawn for the
evaluation, or all of the folder --test; of the others --per_class of the first class are kept for
training, and fewer of each further class, down to an --imbalance-th of that in the last one (as Cui
et al., arXiv 1901.05555, make CIFAR long-tailed). All methods of a seed see the same images,
initial weights and batches; soup, ensemble and teachers are three runs with the same initial
weights and other batches. The interval of the difference is Student's, over the seeds.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from tf_image_classification import backbones, make_settings
from tf_image_classification.batches import Batch
from tf_image_classification.checkpoints.warm_start import load_values
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.model_outputs import mean_logits
from tf_image_classification.optim.long_tail_losses import training_losses
from tf_image_classification.optim.optimizers import make_optimizer, prepare
from tf_image_classification.optim.schedules import make_schedule
from tf_image_classification.training.state import make_state
from tf_image_classification.training.step import StepFunction
from tf_image_classification.workflows.combine import mean_weights
from tf_image_classification.workflows.setup.losses import balanced_weights, log_frequencies

BACKBONE, SIZE = "efficientnet_lite0", 128
EVAL_FRACTION, MOST = 0.3, 150  # images of a class
BATCH_SIZE, STEPS = 32, 300
METHODS = {
    "class_weights=balanced": {"class_weights": "balanced"},
    "label_smoothing=0.1": {"label_smoothing": 0.1},
    "loss=focal": {"loss": "focal"},
    "loss=logit_adjusted": {"loss": "logit_adjusted"},
    "sam_rho=0.05": {"sam_rho": 0.05},
    "teacher=3 runs": {"teacher": "others"},
    "combine=soup of 3": {},
    "combine=ensemble of 3": {},
}


def pictures_of(folder, most):
    """Paths by class, the first ones of each."""
    names = sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n)))
    return [
        sorted(entry.path for entry in os.scandir(os.path.join(folder, n)))[:most] for n in names
    ]


def features_of(classes):
    """The features of each class's pictures."""
    model = backbones.create(BACKBONE, (SIZE, SIZE, 3))
    load_values(model, backbones.imagenet_values(BACKBONE), "imagenet")
    forward = tf.function(lambda images: model(images, training=False))

    def image(path):
        pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(pixels, [SIZE, SIZE], antialias=True)

    found = []
    for paths in classes:
        data = tf.data.Dataset.from_tensor_slices(paths).map(image).batch(32)
        found.append(np.concatenate([forward(images).numpy() for images in data]))
    return found


class Trial:
    """The data of one seed, and the trainings on them."""

    def __init__(self, train, test, options, seed):
        draw, kept, shown = np.random.default_rng(seed), [], []
        for number, rows in enumerate(train):
            rows = rows[draw.permutation(len(rows))]
            held = 0 if test else round(EVAL_FRACTION * len(rows))
            shown.append(test[number] if test else rows[:held])
            rows = rows[held:]
            if options.per_class:
                tail = options.imbalance ** (-number / (len(train) - 1))
                rows = rows[: max(2, round(options.per_class * tail))]
            kept.append(rows)
        self.seed, self.depth = seed, len(train)
        self.y = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(kept)])
        self.eval_y = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(shown)])
        x, eval_x = np.concatenate(kept), np.concatenate(shown)
        mean, deviation = x.mean(0), x.std(0) + 1e-3
        self.x, self.eval_x = ((v - mean) / deviation for v in (x, eval_x))
        self.counts = np.bincount(self.y, minlength=self.depth)
        self.schema = LabelSchema((Label("kind", depth=self.depth),))

    def model(self):
        keras.utils.set_random_seed(self.seed)
        inputs = keras.Input([self.x.shape[1]])
        hidden = keras.layers.Dense(128, activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.Dense(self.depth)(hidden))

    def run(self, order, teachers=(), **given):
        """A head, trained on batches in the order of a seed."""
        given = {**given, "teacher": ("those",)} if teachers else given
        settings = make_settings({"learning_rate": 1e-3, "weight_decay": 1e-3, **given})
        model = self.model()
        schedule = make_schedule(settings.schedule, train_steps=STEPS, steps_per_epoch=STEPS)
        optimizer = make_optimizer(settings.optimizer, schedule, precision="float32")
        prepare(optimizer, model.trainable_variables)
        state = make_state(model, optimizer, model.trainable_variables, with_averages=False)
        weights = tf.ones(self.depth)
        if settings.training.class_weights == "balanced":
            weights = tf.constant(balanced_weights(self.counts))
        priors = {"kind": log_frequencies(self.counts)}

        def losses(labels, logits):
            each = training_losses(self.schema, settings.training, labels, logits, priors)
            return {"kind": each["kind"] * tf.gather(weights, labels["kind"])}

        def of_teachers(images):
            return mean_logits(self.schema, [{"kind": one(images)} for one in teachers])

        step = StepFunction(
            state=state,
            schema=self.schema,
            forward=lambda images, training: {"kind": model(images, training=training)},
            losses=losses,
            settings=settings.training,
            average_decay=0.0,
            seed=self.seed,
            num_replicas=1,
            teacher=of_teachers if teachers else None,
        )
        one_step = tf.function(functools.partial(step, votes=tf.zeros([0])), autograph=False)
        draw = np.random.default_rng([self.seed, order])
        for _ in range(STEPS):
            rows = draw.choice(len(self.y), BATCH_SIZE)
            batch = Batch(
                tf.constant(self.x[rows], tf.float32),
                {"kind": tf.constant(self.y[rows])},
                {"kind": tf.ones(BATCH_SIZE, tf.bool)},
                tf.constant(rows),
            )
            one_step(batch)
        return model

    def score(self, *models):
        """Balanced accuracy of the mean of their probabilities."""
        logits = [{"kind": model(self.eval_x.astype("f4"))} for model in models]
        found = mean_logits(self.schema, logits)["kind"].numpy().argmax(1)
        classes = range(self.depth)
        return float(np.mean([(found[self.eval_y == c] == c).mean() for c in classes]))

    def scores(self):
        """By method; "cross_entropy" is the run without one."""
        runs = [self.run(order) for order in range(3)]
        soup = self.model()
        named = [{str(i): v for i, v in enumerate(run.get_weights())} for run in runs]
        soup.set_weights(list(mean_weights(named).values()))
        found = {"cross_entropy": self.score(runs[0])}
        for name, given in METHODS.items():
            if "soup" in name:
                found[name] = self.score(soup)
            elif "ensemble" in name:
                found[name] = self.score(*runs)
            elif "teacher" in given:
                found[name] = self.score(self.run(0, runs))
            else:
                found[name] = self.score(self.run(0, **given))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--test", default="")
    parser.add_argument("--per_class", type=int, default=0)
    parser.add_argument("--imbalance", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    train = features_of(pictures_of(options.pictures, MOST))
    test = features_of(pictures_of(options.test, 50)) if options.test else None
    each = []
    for seed in range(options.seeds):
        trial = Trial(train, test, options, seed)
        each.append(trial.scores())
        line = ", ".join(f"{name} {value:.3f}" for name, value in each[-1].items())
        print(f"seed {seed}, {trial.counts.tolist()} to train, {len(trial.eval_y)} to evaluate: "
              f"{line}", flush=True)  # fmt: skip
    for name in METHODS:
        gains = [scores[name] - scores["cross_entropy"] for scores in each]
        mean = statistics.mean(gains)
        margin = stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
        plain, other = (statistics.mean(s[n] for s in each) for n in ("cross_entropy", name))
        print(f"{name}: balanced accuracy {other:.3f}, cross-entropy {plain:.3f}, difference "
              f"{mean:+.3f} (95 % CI {mean - margin:+.3f} to {mean + margin:+.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
