"""A folder of images from the command line: seconds of each engine, and of its runtime alone.

    python benchmarks/predict_many.py MODEL_DIR FOLDER [--engines litert onnx] [--rounds 3]

FOLDER holds images and nothing else. Each round starts every program once, in turn. Beside
``tfic predict`` runs a program that decodes, resizes and calls the runtime, and does nothing else
(``peers/light_loop.py``). Printed are the minimum seconds of the rounds; the ratio is of the
runtime alone to ``tfic predict``: 0.9 means that a tenth of the time goes elsewhere. Other
processes of the machine disturb the seconds of computing less than the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from predict_one import measured
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.engines import choose_engine

LOOP = os.path.join(os.path.dirname(__file__), "peers", "light_loop.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("folder")
    parser.add_argument("--engines", nargs="+", default=["litert", "onnx"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = ModelFolder(given.model_dir)
    size = str(folder.known_manifest().settings["image_size"])
    predict = [sys.executable, "-m", "tf_image_classification", "predict", given.model_dir]
    with tempfile.TemporaryDirectory() as outputs:
        output = os.path.join(outputs, "rows.csv")
        for engine in given.engines:
            _, file = choose_engine(folder, engine)
            commands = (
                [*predict, given.folder, "--engine", engine, "--output", output],
                [sys.executable, LOOP, engine, file.path, size, given.folder],
            )
            rounds = [[measured(command) for command in commands] for _ in range(given.rounds)]
            ours, alone = (
                [min(column) for column in zip(*runs, strict=True)]
                for runs in zip(*rounds, strict=True)
            )
            for name, (secs, computed, memory) in (("tfic predict", ours), ("alone", alone)):
                print(
                    f"{engine:<8} {name:<12} {secs:6.2f} s, {computed:6.2f} s of computing, "
                    f"{memory:4.0f} MB"
                )
            print(
                f"{engine:<8} ratio {alone[0] / ours[0]:.2f}, of computing {alone[1] / ours[1]:.2f}"
            )


if __name__ == "__main__":
    main()
