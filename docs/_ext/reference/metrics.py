"""The table of metrics."""

from reference.markdown import table
from tf_image_classification.metrics.definitions import METRICS, Metric

_HEAD = ("metric", "kinds of label", "better", "definition", "needs", "workers exchange")


def metric_table() -> str:
    """One row for each metric."""
    return table(_HEAD, map(_cells, METRICS))


def _cells(metric: Metric) -> tuple[str, ...]:
    return (
        f"`{metric.name}`{' (per class)' if metric.is_by_class else ''}",
        ", ".join(metric.kinds),
        {True: "higher", False: "lower", None: ""}[metric.higher_is_better],
        metric.summary,
        metric.needs,
        metric.merged_over_workers,
    )
