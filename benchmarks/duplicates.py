"""Finding near duplicates among many hashes: time against that of sorting them, and memory.

    python benchmarks/duplicates.py [--count 1000000]

The hashes are random, with a planted near duplicate for one in a hundred; all of these must be
found. The ratio is to sorting the same hashes five times, once for each part that they are compared
by.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from tf_image_classification.inspection.duplicates import near_pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, count, np.uint64)
    smalls = random.integers(0, 256, [count, 256]).astype(np.uint8)
    planted = random.permutation(count)[: 2 * (count // 100)].reshape(-1, 2)
    bits = random.integers(0, 63, [len(planted), 3])
    flips = np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), axis=1)
    hashes[planted[:, 1]] = hashes[planted[:, 0]] ^ flips
    smalls[planted[:, 1]] = smalls[planted[:, 0]]

    began = time.process_time()
    for _ in range(5):
        np.sort(hashes)
    sorting = time.process_time() - began
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    pairs = near_pairs(hashes, smalls)
    secs = time.process_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wanted = {tuple(sorted(pair)) for pair in planted.tolist()}
    found = {tuple(pair) for pair in pairs.tolist()}
    print(f"{count} hashes: {secs:.1f} s of one core, ratio to five sorts {secs / sorting:.0f}")
    print(
        f"planted pairs found: {len(wanted & found)} of {len(wanted)}; others {len(found - wanted)}"
    )
    print(f"memory on top of the data: {(after - before) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
