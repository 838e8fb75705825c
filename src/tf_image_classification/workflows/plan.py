"""The plan of a run: settings, schedule, measured time and memory, without a training."""

from __future__ import annotations

import statistics
import time
from typing import Any

import tensorflow as tf

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import Settings
from tf_image_classification.config.command_line import settings_text
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import faults
from tf_image_classification.workflows import messages
from tf_image_classification.workflows.setup import build, default_hooks
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.validate import open_run

_MEASURED_STEPS = 6
_CURVE_COLUMNS = 60
_CURVE_ROWS = 8


def describe(context: RunContext) -> str:
    """The plan of a run as text, with measured times; nothing is written to the model folder.

    Raises:
        TficError: anything that would stop the run before its first step.
    """
    opened = open_run(context)
    context, data = opened.context, opened.data
    settings, folder = context.settings, context.folder
    parts = build.assemble(context, data, default_hooks.all_hooks(context, data))
    plan, batch_size = parts.plan, settings.data.batch_size
    first_step = max(CheckpointStore(folder.checkpoints).steps(), default=0)
    rates = [float(parts.schedule(step)) for step in _some_steps(plan.train_steps)]
    secs = [parts.run.stepper.time_steps(1) for _ in range(_MEASURED_STEPS)]
    step_secs = statistics.median(secs[2:])  # the first ones trace and fill the input
    lines = [
        *opened.notes,
        messages.announcement(context, parts, data),
        _beginning(folder, first_step, settings),
        f"images seen: {plan.train_steps * batch_size:,}",
        "",
        "learning rate by step:",
        *_curve(rates, plan.train_steps),
        "",
        f"one step: {step_secs:.3g} s, {batch_size / step_secs:.3g} images/s "
        f"(median of {len(secs) - 2} measured steps)",
    ]
    steps_left = max(plan.train_steps - first_step, 0)
    total = steps_left * step_secs
    if data.evaluation is not None and data.evaluation.num_examples is not None:
        evaluation_secs = _evaluation_secs(parts, data.evaluation, settings)
        num_evaluations = _num_evaluations(settings, steps_left, total, evaluation_secs)
        total += num_evaluations * evaluation_secs
        lines.append(f"one evaluation: {evaluation_secs:.3g} s; about {num_evaluations} of them")
    result = [
        f"{'the rest' if first_step else 'the whole run'}: {_duration(total)}",
        f"memory: {_memory()}",
    ]
    return "\n".join([*result, *lines, "", "settings:", settings_text(settings)])


def _beginning(folder: ModelFolder, first_step: int, settings: Settings) -> str:
    if first_step:
        return f"starts: at step {first_step}, from the newest checkpoint in {folder.checkpoints}"
    if settings.model.checkpoint_path:
        return f"starts: with weights from {settings.model.checkpoint_path}"
    return "starts: with initial weights"


def _some_steps(train_steps: int) -> list[int]:
    last = max(train_steps - 1, 0)
    return [round(i * last / (_CURVE_COLUMNS - 1)) for i in range(_CURVE_COLUMNS)]


def _curve(rates: list[float], train_steps: int) -> list[str]:
    """The learning rates as a plot of characters, the highest on top."""
    peak = max(rates) or 1.0
    heights = [round(rate / peak * (_CURVE_ROWS - 1)) for rate in rates]
    rows = []
    for row in reversed(range(_CURVE_ROWS)):
        label = f"{peak * row / (_CURVE_ROWS - 1):9.3g}"
        rows.append(f"{label} |" + "".join("*" if h == row else " " for h in heights).rstrip())
    rows.append(" " * 10 + "+" + "-" * _CURVE_COLUMNS)
    rows.append(" " * 11 + f"0{train_steps:>{_CURVE_COLUMNS - 1}}")
    return rows


def _evaluation_secs(parts: Any, evaluation: Any, settings: Settings) -> float:
    """Seconds of one evaluation, from a few batches after the traced one."""
    num_batches = int(evaluation.num_evaluation_batches(settings.evaluation.eval_freq))
    measured = min(num_batches, _MEASURED_STEPS)
    evaluate = parts.evaluate_some(measured)
    evaluate()
    began = time.monotonic()
    evaluate()
    return (time.monotonic() - began) / measured * num_batches


def _num_evaluations(settings: Settings, steps: int, training_secs: float, secs: float) -> int:
    every = settings.evaluation.eval_every_steps
    if every is not None:
        return max(1, -(-steps // every))
    return 1 + int(training_secs // max(settings.evaluation.eval_throttle_secs, secs, 1e-9))


def _duration(secs: float) -> str:
    hours, rest = divmod(round(secs), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min {seconds} s"


def _memory() -> str:
    peak_bytes = faults.peak_memory()
    text = f"{peak_bytes / 2**30:.2f} GiB of the host at most" if peak_bytes else "not known"
    for gpu in tf.config.list_logical_devices("GPU"):
        used = tf.config.experimental.get_memory_info(gpu.name.split("/device:")[-1])["peak"]
        text += f", {used / 2**30:.2f} GiB of {gpu.name.split('/')[-1]}"
    return text
