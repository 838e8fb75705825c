"""Runs one training again and again in forked processes that are killed; for the kill test.

Importing TensorFlow takes seconds, forking milliseconds: this process imports it, never uses it,
and forks one child for each attempt. Arguments: the folder to work in, and the places where a child
is killed (``ALL_PLACES``). Prints one JSON line an attempt.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny_runs
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.hooks import Hook
from tf_image_classification.system import files

TRAIN_STEPS = 100 if os.environ.get("TFIC_ALL_TESTS") else 40
NUM_TIMED_KILLS = 3 if os.environ.get("TFIC_ALL_TESTS") else 1
MAX_ATTEMPTS = 40
ALL_PLACES = ("time", "step", "rename", "fsync", "evaluation")


def main(folder, *places):
    dice = random.Random(0)
    reference, killed = os.path.join(folder, "reference"), os.path.join(folder, "killed")
    began = time.monotonic()
    assert attempt(folder, reference, {}) == 0
    whole_secs = time.monotonic() - began
    # Whichever comes first, so that no attempt gets to the end of the run.
    plans = [
        {"secs": dice.uniform(0.3, 0.9) * whole_secs, "at": "step", "count": 9}
        for _ in range(NUM_TIMED_KILLS if "time" in places else 0)
    ]
    # A save flushes and renames the data file, then the index: 4 calls.
    counts = {
        "step": [dice.randint(1, 6) for _ in range(NUM_TIMED_KILLS)],
        "rename": [dice.choice([2, 4, 6])],
        "fsync": [dice.randint(3, 9)],
        "evaluation": [1],
    }
    plans += [{"at": at, "count": n} for at, ns in counts.items() if at in places for n in ns]
    dice.shuffle(plans)
    for number, plan in enumerate([*plans, *[{}] * MAX_ATTEMPTS]):
        status = attempt(folder, killed, plan)
        steps = CheckpointStore(os.path.join(killed, "checkpoints")).steps()
        print(json.dumps({"attempt": number, "plan": plan, "status": status, "steps": steps}))
        sys.stdout.flush()
        if status == 0 and not plan:
            return


def attempt(folder, model_dir, plan):
    """Start the training in a new process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        with open(os.path.join(folder, "log.txt"), "a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            train(folder, model_dir, plan)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    if "secs" in plan:
        time.sleep(plan["secs"])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(folder, model_dir, plan):
    """The training whose bits are compared: 40 examples in batches of 6, so epochs end anywhere."""
    countdown = {plan.get("at"): plan.get("count", 0)}

    def passes(place):
        if countdown.get(place):
            countdown[place] -= 1
            if not countdown[place]:
                os.kill(os.getpid(), signal.SIGKILL)

    class KillHook(Hook):
        def after_step(self, run):
            passes("step")

        def after_evaluation(self, run, evaluation):
            passes("evaluation")

    def killing(function, place):
        def call(*arguments):
            passes(place)
            return function(*arguments)

        return call

    tiny_runs.leave_out_what_takes_long()
    files.rename = killing(files.rename, "rename")
    os.fsync = killing(os.fsync, "fsync")
    tiny_runs.run(
        tiny_runs.TinySpec(),
        model_dir,
        os.path.join(folder, "train-*"),
        os.path.join(folder, "eval-*"),
        hooks=[KillHook()],
        train_steps=TRAIN_STEPS,
        moving_average_decay=0.9,
        eval_every_steps=7,
        save_checkpoints_steps=3,
        save_summary_steps=5,
        keep_checkpoint_max=2,
        early_stopping_patience=50,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
