"""PyTorch's side of ``train_throughput.py``: trains a network of timm step by step.

It runs in an environment of its own with torch and timm, reads numbers of steps from standard
input and prints the seconds that each took. Batches are in memory as bytes, in channels-last order.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from torch import nn


def small_cnn(size, classes):
    left = ((size - 2) // 2 - 2) // 2
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * left * left, classes),
    )


def network(name, size, classes):
    if name == "small_cnn":
        return small_cnn(size, classes)
    import timm

    options = {"img_size": size} if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=classes, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("size", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = network(given.network, given.size, given.classes)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    shape = (given.batch_size, 3, given.size, given.size)
    batches = [
        (
            torch.randint(0, 256, shape, dtype=torch.uint8).to(memory_format=torch.channels_last),
            torch.randint(0, given.classes, (given.batch_size,)),
        )
        for _ in range(8)
    ]

    def step(number):
        images, labels = batches[number % len(batches)]
        logits = model(images.float() / 127.5 - 1)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for number in range(int(line)):
            step(number)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
