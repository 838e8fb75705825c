"""The tiny training as a program of its own, for tests that look at how its process ends."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

import tiny_runs
from tf_image_classification import train_estimator
from tf_image_classification.distributed.cluster_spec import read_cluster
from tf_image_classification.hooks import Hook
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process

flags.DEFINE_integer("full_after", 0, "Step after which no file may grow, as on a full disk.")
flags.DEFINE_float("step_secs", 0.0, "Seconds that each step takes.")
flags.DEFINE_bool("plain", False, "Nothing random and no batch normalisation.")
flags.DEFINE_bool("noisy", True, "Dropout and augmentation.")
flags.DEFINE_string("signal", "", "Name of a signal that one worker sends itself, once.")
flags.DEFINE_integer("signal_at", 0, "The step after which it does.")
flags.DEFINE_integer("signal_rank", 0, "The number of that worker.")
FLAGS = flags.FLAGS


class Surroundings(Hook):
    """Says each step, makes the disk full, and sends the signal."""

    on_every_worker = True

    def after_step(self, run):
        print(f"step {run.step}", flush=True)
        time.sleep(FLAGS.step_secs)
        if run.step == FLAGS.full_after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
        cluster = read_cluster(os.environ)
        sent = files.join(run.model_dir, "signal_was_sent")
        is_this = FLAGS.signal_rank == (cluster.rank if cluster else 0)
        if FLAGS.signal and is_this and run.step == FLAGS.signal_at and not files.exists(sent):
            files.write_bytes(sent, b"")
            os.kill(os.getpid(), signal.Signals[FLAGS.signal])


if __name__ == "__main__":
    with ends_the_process():
        tiny_runs.leave_out_what_takes_long()
        settings = train_estimator.settings_of_command_line(sys.argv[1:])
        spec = tiny_runs.TinySpec(
            noise=0.5 if FLAGS.noisy and not FLAGS.plain else 0.0, batch_norm=not FLAGS.plain
        )
        train_estimator.train(spec, settings, hooks=[Surroundings()])
