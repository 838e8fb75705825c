"""What folding batch normalisation once, and weights as constants, gain in an exported model.

    python benchmarks/export_latency.py [--backbone mobilenet_v2] [--rounds 3] [--isa AVX2]

Each round measures in a process of its own, one with oneDNN and one without. In it three predict in
turn: folded once with constants as weights, as the engine of TensorFlow does on processors; folded
once with variables; and folded in the graph at each call. Printed are medians of the time for one
image and for a batch of 32, each in wall-clock and in processor time, ratios to the second, sizes,
and the largest difference. Two more processes a round load the export with constants and without,
and predict one image: seconds of computing and memory.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BATCH_SIZES = {"1": 40, "32": 4}  # with the number of calls
VARIANTS = ("constant", "folded", "plain")
CLOCKS = {"clock": time.monotonic, "processor": time.process_time}


def exports(backbone, folder):
    """Write the two exports of a network with random weights; returns megabytes by export."""
    import dataclasses

    from tf_image_classification import backbones, make_settings
    from tf_image_classification.backbone_spec import BackboneSpec
    from tf_image_classification.export.folding import FoldedModel
    from tf_image_classification.export.saved_model import export_saved_model
    from tf_image_classification.export.verify import num_bytes
    from tf_image_classification.labels import Label, LabelSchema
    from tf_image_classification.workflows.export_saved_model import servable
    from tf_image_classification.workflows.setup.model import make_forward

    size = backbones.find(backbone).image_size
    settings = make_settings({"backbone": backbone, "image_size": size})
    schema = LabelSchema((Label("kind", depth=10),))
    spec = BackboneSpec(schema.labels, settings.backbone_spec)
    model = backbones.create(backbone, (size, size, 3), outputs=10)
    folded = servable(spec, settings, schema, model)
    plain = dataclasses.replace(
        folded,
        folded=FoldedModel(model, (), [variable.value for variable in model.variables]),
        forward=make_forward(model, schema, settings),
    )
    megabytes = {}
    for name, parts in (("folded", folded), ("plain", plain)):
        path = os.path.join(folder, name)
        export_saved_model(path, parts, step=0)
        megabytes[name] = num_bytes(path) / 1e6
    return megabytes


def measured(folder):
    """Seconds of a call by batch size, clock and variant, and the differences from "folded"."""
    import numpy as np
    import tensorflow as tf

    from tf_image_classification.export.frozen_graph import constant_weights
    from tf_image_classification.export.saved_model import ExportedModel

    loaded = {n: ExportedModel(os.path.join(folder, n)).load() for n in ("folded", "plain")}
    forward = {n: functools.partial(one.forward, training=False) for n, one in loaded.items()}
    forward["constant"] = constant_weights(loaded["folded"].loaded.classify.concrete_functions[0])
    shape = [32, *loaded["folded"].image_spec.shape]
    images = tf.random.stateless_uniform(shape, (0, 0), 0.0, 255.0)
    logits = {name: forward[name](images)["kind"].numpy() for name in VARIANTS}
    scale = np.abs(logits["folded"]).max()
    found = {"secs": {}, "differences": {}}
    for name in VARIANTS:
        found["differences"][name] = float(np.abs(logits[name] - logits["folded"]).max() / scale)
    for batch_size, count in BATCH_SIZES.items():
        batch = images[: int(batch_size)]
        secs = {clock: {name: [] for name in VARIANTS} for clock in CLOCKS}
        for _ in range(count):
            for name in VARIANTS:
                began = {clock: now() for clock, now in CLOCKS.items()}
                forward[name](batch)["kind"].numpy()
                for clock, now in CLOCKS.items():
                    secs[clock][name].append(now() - began[clock])
        found["secs"][batch_size] = {
            clock: {name: statistics.median(values) for name, values in rows.items()}
            for clock, rows in secs.items()
        }
    return found


def started(folder, variant):
    """Seconds of computing until one image is predicted, after imports, and the memory then."""
    import psutil
    import tensorflow as tf

    from tf_image_classification.export.frozen_graph import constant_weights
    from tf_image_classification.export.saved_model import ExportedModel

    began = time.process_time()
    exported = ExportedModel(os.path.join(folder, "folded")).load()
    forward = functools.partial(exported.forward, training=False)
    if variant == "constant":
        forward = constant_weights(exported.loaded.classify.concrete_functions[0])
    forward(tf.zeros([1, *exported.image_spec.shape]))["kind"].numpy()
    secs = time.process_time() - began
    return {"secs": secs, "megabytes": psutil.Process().memory_info().rss / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--isa", default="", help="instructions that oneDNN may use, e.g. AVX2")
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "exports":
        print(json.dumps(exports(options.backbone, options.folder)))
    elif options.child == "measured":
        print(json.dumps(measured(options.folder)))
    elif options.child:
        print(json.dumps(started(options.folder, options.child)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, folder)


def compare(options, folder):
    """Measure all in turn, and print it."""

    def child(name, is_on="1"):
        command = [sys.executable, __file__, "--child", name, "--folder", folder]
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": is_on, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if options.isa:
            environment["ONEDNN_MAX_CPU_ISA"] = options.isa
        found = subprocess.run(
            [*command, "--backbone", options.backbone],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(found.stdout.splitlines()[-1])

    megabytes = child("exports")
    found, starts = {"0": [], "1": []}, {"constant": [], "folded": []}
    for _ in range(options.rounds):
        for is_on, rows in found.items():
            rows.append(child("measured", is_on))
        for name, rows in starts.items():
            rows.append(child(name))
    for batch_size in BATCH_SIZES:
        for clock in CLOCKS:
            for is_on, rows in found.items():
                constant, folded, plain = (
                    1000 * statistics.median(row["secs"][batch_size][clock][name] for row in rows)
                    for name in VARIANTS
                )
                print(
                    f"{options.backbone}, batch {batch_size}, {clock}, oneDNN "
                    f"{'on' if is_on == '1' else 'off'}: {constant:.1f} ms with constants, "
                    f"{folded:.1f} ms folded once, ratio {folded / constant:.2f}; {plain:.1f} ms "
                    f"folded at each call, ratio {plain / folded:.2f}"
                )
    for name, rows in starts.items():
        secs, memory = (statistics.median(row[key] for row in rows) for key in rows[0])
        print(f"{name}: {secs:.2f} s of computing to the first prediction, {memory:.0f} MB then")
    differences = {
        name: max(row["differences"][name] for rows in found.values() for row in rows)
        for name in VARIANTS
    }
    print(
        f"{megabytes['folded']:.1f} MB folded, {megabytes['plain']:.1f} MB plain; largest "
        f"difference relative to the largest logit: {differences['constant']:.1g} with constants, "
        f"{differences['plain']:.1g} folded at each call"
    )


if __name__ == "__main__":
    main()
