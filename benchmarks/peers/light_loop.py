"""Decoding and runtime alone: every image of a folder through a light file, and nothing else.

python benchmarks/peers/light_loop.py ENGINE MODEL_FILE IMAGE_SIZE FOLDER
"""

import collections
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tf_image_classification.serving.light.files import open_file
from tf_image_classification.serving.light.preprocess import LightPreprocessing

BATCH_SIZE = 32

engine, file, image_size, folder = sys.argv[1:]
preprocessing = LightPreprocessing(image_size=int(image_size))
infer = open_file(engine, file)


def prepared(name):
    with open(os.path.join(folder, name), "rb") as stream:
        return preprocessing.prepare(stream.read())


names = collections.deque(sorted(os.listdir(folder)))
found, waiting = 0, collections.deque()
with ThreadPoolExecutor(os.cpu_count()) as pool:
    while names or waiting:
        while names and len(waiting) < 3 * BATCH_SIZE:
            waiting.append(pool.submit(prepared, names.popleft()))
        batch = [waiting.popleft().result() for _ in range(min(BATCH_SIZE, len(waiting)))]
        found += len(next(iter(infer(np.stack(batch)).values())))
print(found)
