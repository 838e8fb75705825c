"""One large request beside small ones: how much longer the small ones then take.

    python benchmarks/serving_fairness.py MODEL_DIR [--images 128] [--side 6000] [--secs 10]

A client asks for the class of one small image, again and again, first alone and then while another
client repeats a request of many large PNGs that compress well. Both run on this machine and use its
cores. The ratio: the longest time that the small request took beside the large one, divided by its
median time alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import statistics
import time

import httpx
import numpy as np
from PIL import Image

from serving import NAME, Server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--side", type=int, default=6000, help="of the large PNGs, in pixels")
    parser.add_argument("--secs", type=float, default=10.0)
    given = parser.parse_args()
    server = Server(given.model_dir, 32)
    try:
        alone, beside, statuses = asyncio.run(compare(server.url, given))
        print(f"memory at the end: {server.megabytes():.0f} MB")
    finally:
        server.stop()
    for name, times in (("alone", alone), ("beside the large request", beside)):
        print(
            f"{name:<26} {len(times):>5} requests, median {statistics.median(times):7.0f} ms, "
            f"longest {max(times):7.0f} ms"
        )
    print(f"statuses of the large requests: {statuses}")
    print(f"ratio {max(beside) / statistics.median(alone):.1f}")


async def compare(url, given):
    small, large = png(64), png(given.side)
    print(f"{given.images} PNGs of {given.side} x {given.side}, {len(large) / 1e3:.0f} kB each")
    many = {"instances": [b64(large)] * given.images}
    async with httpx.AsyncClient(base_url=url, timeout=120) as session:
        await ask(session, {"instances": [b64(small)]})
        alone = await repeat(session, small, time.monotonic() + given.secs)
        statuses = []

        async def keep_asking(end):
            while time.monotonic() < end:
                answer = await session.post(f"/v1/models/{NAME}:predict", json=many)
                statuses.append(answer.status_code)
                await asyncio.sleep(0.1)

        end = time.monotonic() + given.secs
        busy = asyncio.create_task(keep_asking(end))
        await asyncio.sleep(1.0)  # it has arrived
        beside = await repeat(session, small, end)
        await busy
    return alone, beside, sorted(set(statuses))


async def repeat(session, image, end):
    """Milliseconds of each request until the end."""
    body, times = {"instances": [b64(image)]}, []
    while time.monotonic() < end:
        times.append(await ask(session, body))
        await asyncio.sleep(0.02)
    return times


async def ask(session, body):
    began = time.monotonic()
    answer = await session.post(f"/v1/models/{NAME}:predict", json=body)
    answer.raise_for_status()
    return 1000 * (time.monotonic() - began)


def png(side):
    """A PNG of a slope of grey, which compresses well."""
    row = np.linspace(0, 255, side).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(np.broadcast_to(row, [side, side])).save(data, "PNG", compress_level=6)
    return data.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


if __name__ == "__main__":
    main()
