"""What folding batch normalisation once, at the export, gains in an exported model.

    python benchmarks/export_latency.py [--backbone mobilenet_v2] [--rounds 3]

Each round measures in a process of its own, one with oneDNN and one without. In it both exports
predict in turn: folded once, and folded in the graph at each call. Printed are medians of the
latency of one image and of the time for a batch of 32, ratios, sizes, and the largest difference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BATCH_SIZES = {"1": 40, "32": 4}  # with the number of calls


def measured(backbone):
    """Seconds of a call by export and batch size, megabytes by export, and their difference."""
    import dataclasses

    import numpy as np
    import tensorflow as tf

    from tf_image_classification import backbones, make_settings
    from tf_image_classification.backbone_spec import BackboneSpec
    from tf_image_classification.export.folding import FoldedModel
    from tf_image_classification.export.saved_model import ExportedModel, export_saved_model
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
    images = tf.random.stateless_uniform([32, size, size, 3], (0, 0), -1.0, 1.0)
    loaded, found = {}, {"secs": {}, "megabytes": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, parts in (("folded", folded), ("plain", plain)):
            path = os.path.join(folder, name)
            export_saved_model(path, parts, step=0)
            found["megabytes"][name] = num_bytes(path) / 1e6
            loaded[name] = ExportedModel(path).load()
        logits = {n: one.forward(images, False)["kind"].numpy() for n, one in loaded.items()}
        found["difference"] = float(np.abs(logits["folded"] - logits["plain"]).max())
        for batch_size, count in BATCH_SIZES.items():
            batch = images[: int(batch_size)]
            secs = {name: [] for name in loaded}
            for _ in range(count):
                for name, one in loaded.items():
                    began = time.monotonic()
                    one.forward(batch, False)["kind"].numpy()
                    secs[name].append(time.monotonic() - began)
            found["secs"][batch_size] = {n: statistics.median(s) for n, s in secs.items()}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.backbone)))
        return
    command = [sys.executable, __file__, "--child", "--backbone", options.backbone]
    found = {"0": [], "1": []}
    for _ in range(options.rounds):
        for is_on, rows in found.items():
            environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": is_on, "TF_CPP_MIN_LOG_LEVEL": "3"}
            text = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
            rows.append(json.loads(text.splitlines()[-1]))
    for is_on, rows in found.items():
        for batch_size in BATCH_SIZES:
            folded, plain = (
                1000 * statistics.median(row["secs"][batch_size][name] for row in rows)
                for name in ("folded", "plain")
            )
            print(
                f"{options.backbone}, oneDNN {'on' if is_on == '1' else 'off'}, batch "
                f"{batch_size}: {folded:.1f} ms folded, {plain:.1f} ms folded at each call, ratio "
                f"{plain / folded:.2f}"
            )
    sizes = found["0"][0]["megabytes"]
    difference = max(row["difference"] for rows in found.values() for row in rows)
    print(
        f"{sizes['folded']:.1f} MB folded, {sizes['plain']:.1f} MB plain; the largest difference "
        f"of a logit is {difference:.1g}"
    )


if __name__ == "__main__":
    main()
