"""Runners that write shards: a pool of processes on this machine, or Apache Beam on many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from tf_image_classification.conversion.shards import Shard, ShardResult, write_shard
from tf_image_classification.errors import ConfigError
from tf_image_classification.system.process_pool import process_pool

RUNNERS = ("pool", "direct", "dask", "dataflow", "flink", "spark")
_FEW_IMAGES = 1000
_BEAM_NAMES = {
    "direct": "DirectRunner",
    "dask": "apache_beam.runners.dask.dask_runner.DaskRunner",
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
}


def run(
    shards: Sequence[Shard], *, runner: str, num_processes: int, beam_options: Sequence[str] = ()
) -> Iterator[ShardResult]:
    """The results of shards as they are finished.

    Args:
        shards: what to write.
        runner: one of ``RUNNERS``.
        num_processes: of the pool; 0: one per core, or this one alone for few images, because each
            process takes seconds to import TensorFlow.
        beam_options: further arguments for Beam, e.g. ``--project=mine``.

    Raises:
        ConfigError: the runner needs an extra that is not installed.
    """
    if runner == "pool":
        is_small = sum(len(shard.rows) for shard in shards) <= _FEW_IMAGES
        own = 1 if is_small else os.cpu_count() or 1
        yield from _pool(shards, num_processes or own)
    else:
        yield from _beam(shards, runner, beam_options)


def _pool(shards: Sequence[Shard], num_processes: int) -> Iterator[ShardResult]:
    if num_processes == 1 or len(shards) == 1:
        yield from map(write_shard, shards)
        return
    with process_pool(min(num_processes, len(shards))) as pool:
        yield from pool.map(write_shard, shards)


def _beam(shards: Sequence[Shard], runner: str, options: Sequence[str]) -> Iterator[ShardResult]:
    """The shard is written inside the step: Beam's own file sinks fail on some runners."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ConfigError(
            f"--runner {runner} needs Apache Beam. Type: pip install "
            "'tf_image_classification[beam]'"
        ) from error
    pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={_BEAM_NAMES[runner]}", *options]))
    _ = pipeline | beam.Create(list(shards)) | beam.Reshuffle() | beam.Map(write_shard)
    result = pipeline.run()
    try:
        result.wait_until_finish()
    finally:
        if runner == "dask":
            result.client.close()  # and the workers that it has started
    # The results that each step has stored beside the shards are read, whichever machine it ran on.
    yield from map(write_shard, shards)
