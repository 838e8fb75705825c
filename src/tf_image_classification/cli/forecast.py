"""``tfic forecast DATA``: the accuracy to expect with more labels."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli.verb import check_output, json_argument, printing_json, verb
from tf_image_classification.config import DEFAULT_MAX_PIXELS, Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows.setup import environment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic forecast``."""

    data: tuple[str, ...] = declare(
        (),
        "Labelled images, as tfic train takes them.",
        separator="",
        is_required=True,
        aliases=("labelled", "train_metadata"),
    )
    label: str = declare("", "Column of the classes; empty: the only one that can be.")
    labels: tuple[str, ...] = declare(
        (), "Numbers of labels to forecast, e.g. 500,1000; empty: 1.5, 2 and 4 times as many."
    )
    more: int = declare(0, "Further labels of each class; 0: as many as the class has.", minimum=0)
    seed: int = declare(0, "Random seed of folds and subsets.", minimum=0)
    page: str = declare("", "HTML page to write.", aliases=("html",))
    json: str = json_argument()
    max_image_pixels: int = declare(
        DEFAULT_MAX_PIXELS, "Maximum pixels per image; larger ones are left out.", minimum=1
    )


@verb(
    "forecast",
    Arguments,
    description="Forecast the accuracy with more labels, overall and by class, from learning "
    "curves of a logistic regression on the features of the default backbone.",
    example="tfic forecast pets --page forecast.html",
    positions=("data",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Forecast; returns the exit status."""
    try:
        labels = [int(text) for text in given.labels]
    except ValueError:
        raise UsageError(
            f"--labels {','.join(given.labels)}: expected whole numbers, e.g. 500,1000."
        ) from None
    check_output("page", given.page)
    environment.prepare_tensorflow(settings.replace(deterministic=False))
    from tf_image_classification.report.forecast import write_page  # late: help is instant
    from tf_image_classification.workflows import forecast as forecasting

    with printing_json(given.json) as write_json:
        found = forecasting.forecast(
            given.data,
            label=given.label,
            labels=labels,
            more=given.more,
            seed=given.seed,
            max_pixels=given.max_image_pixels,
            cache_dir=environment.cache_dir(settings),
        )
        print("\n".join(forecasting.summary(found)))
        if given.page:
            write_page(given.page, forecasting.page_content(found, " ".join(given.data)))
            print(f"wrote {given.page}")
        write_json(forecasting.as_json(found))
    return 0
