"""Write the table of metrics into docs/evaluate.md, between its two markers."""

import pathlib

from tf_image_classification.metrics.definitions import METRICS, Metric

BEGIN, END = "<!-- metrics: written by make docs -->\n", "<!-- end of metrics -->\n"
HEAD = (
    "| metric | kinds of label | better | definition | needs | workers exchange |\n"
    "|---|---|---|---|---|---|\n"
)


def row(metric: Metric) -> str:
    """One line of the table."""
    cells = (
        f"`{metric.name}`{' (per class)' if metric.is_by_class else ''}",
        ", ".join(metric.kinds),
        {True: "higher", False: "lower", None: ""}[metric.higher_is_better],
        metric.summary,
        metric.needs,
        metric.merged_over_workers,
    )
    return f"| {' | '.join(cells)} |\n"


def with_table(text: str) -> str:
    """The page's text with the current table."""
    before, rest = text.split(BEGIN)
    table = HEAD + "".join(map(row, METRICS))
    return before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    page = pathlib.Path(__file__).parents[1] / "docs" / "evaluate.md"
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
