"""The tiny training as a program of its own, for tests that look at how its process ends."""

from __future__ import annotations

import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

import tiny_runs
from tf_image_classification import train_estimator
from tf_image_classification.hooks import Hook

flags.DEFINE_integer("full_after", 0, "Step after which no file may grow, as on a full disk.")
flags.DEFINE_float("step_secs", 0.0, "Seconds that each step takes.")


class Surroundings(Hook):
    """Says each step, and makes the disk full."""

    def after_step(self, run):
        print(f"step {run.step}", flush=True)
        time.sleep(flags.FLAGS.step_secs)
        if run.step == flags.FLAGS.full_after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))


if __name__ == "__main__":
    train_estimator.train(tiny_runs.TinySpec(), hooks=[Surroundings()])
