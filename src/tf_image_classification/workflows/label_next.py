"""``tfic label-next``: which images without a label to label next.

found = label_next(["unlabelled"], labelled=["pets"], count=50, cache_dir=cache_dir)
found.images[0].path, found.images[0].reason
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.readers import Place, Row, find_examples, source_kind
from tf_image_classification.dataset.readers.kinds import CSV
from tf_image_classification.dataset.readers.listing import LABEL
from tf_image_classification.dataset.readers.names import TRAIN
from tf_image_classification.errors import ConfigError, DataError, counted, nearest
from tf_image_classification.evaluation.probe import (
    Floats,
    Ints,
    fit_probe,
    one_thread,
    probe_space,
)
from tf_image_classification.evaluation.selection import (
    AUTO,
    RULES,
    UNLABELLED,
    Chosen,
    choose,
)
from tf_image_classification.inspection.image_stats import ImageStats, measure_image
from tf_image_classification.inspection.same_pictures import same_pictures
from tf_image_classification.report.next_labels import NextLabelsPage, PageRow
from tf_image_classification.serving.input_images import check_patterns, find_images
from tf_image_classification.system import files, screen
from tf_image_classification.workflows.labelled_images import (
    LabelledImages,
    image_features,
    labelled_images,
    of_listings,
)

_IMAGE = "URIs"
_MOST_ROUNDS = 20  # of choosing again without the near-duplicates that were found
_NEIGHBOURS = 3  # of a chosen image, compared with it pixel by pixel
_NO_LABELS = LabelledImages(LABEL, (), (), np.zeros(0, np.int64), ())


@dataclasses.dataclass(frozen=True)
class ImageToLabel:
    """One image to label.

    Attributes:
        path: of the image; inside a packed file its record, row or member.
        reason: why it is chosen.
        score: by the rule; images chosen by one rule can be compared.
        guess: the most probable class, or "" without labels of two classes.
        probability: of that class; NaN without a guess.
        stats: of its pixels, for thumbnails.
    """

    path: str
    reason: str
    score: float
    guess: str
    probability: float
    stats: ImageStats


@dataclasses.dataclass(frozen=True)
class LabelNext:
    """The images to label next, and what was left out.

    Attributes:
        images: the best first.
        rule: that chose them.
        labelled: the labelled images.
        num_unlabelled: images among which the rule chose.
        num_copies: images left out since they are labelled already or copies of one another.
        problems: by name, why an image cannot be used.
        network: what gave the features.
        are_files: whether every image is a file of its own, as a CSV can name it.
    """

    images: Sequence[ImageToLabel]
    rule: str
    labelled: LabelledImages
    num_unlabelled: int
    num_copies: int
    problems: dict[str, str]
    network: str
    are_files: bool


def label_next(
    unlabelled: Sequence[str],
    labelled: Sequence[str] = (),
    *,
    label: str = "",
    model_dir: str = "",
    count: int = 50,
    rule: str = AUTO,
    seed: int = 0,
    max_pixels: int = 0,
    cache_dir: str = "",
) -> LabelNext:
    """The images to label next; the same for the same images, labels and seed.

    Args:
        unlabelled: images as ``tfic predict`` takes them; their folders and labels do not matter.
            A CSV with classes for some of its rows is both: without ``labelled`` these rows are
            the labelled images.
        labelled: sources of labelled images; (): there are none yet.
        label: the column of the classes; "": the only one that can be.
        model_dir: a model folder whose features are used; "": the default backbone.
        count: images to choose.
        rule: one of ``evaluation.selection.RULES``.
        seed: of the rule.
        max_pixels: larger images are not decoded; 0: the default.
        cache_dir: folder of the cache of features; "": they are not kept.

    Raises:
        DataError: a source cannot be read, or no image of ``unlabelled`` is left to label.
        ConfigError: there is no such column, or an option is out of its range.
        CheckpointError: the model folder cannot be used.
    """
    if rule not in RULES:
        raise ConfigError(
            f"rule is {rule!r}, expected one of {', '.join(RULES)}.{nearest(rule, RULES)}"
        )
    if count < 1:
        raise ConfigError(f"count is {count}, expected 1 or more.")
    check_patterns(unlabelled)
    known, pool, problems = _sources(unlabelled, labelled, label, cache_dir)
    if not pool:
        _refuse_empty(unlabelled, problems)
    places = [*known.places, *(place for _, place in pool)]
    features = image_features(
        places, model_dir=model_dir, cache_dir=cache_dir, max_pixels=max_pixels
    )
    screen.say(features.note())
    first = len(known.places)
    for number in features.problems:
        if number >= first:
            name, place = pool[number - first]
            problems[name] = _why_unusable(name, place, max_pixels)
    if not len(features.values) or len(features.problems) == len(places):
        _refuse_empty(unlabelled, problems)
    able = [i for i in range(len(places)) if i not in features.problems]
    fresh, num_copies = _distinct(features.values, able, first)
    if not fresh:
        raise DataError(
            f"{', '.join(unlabelled)}: {_whether_left(num_copies, problems)}, so no image is left "
            "to label."
        )
    is_evaluated = known.is_for_evaluation
    rows = [i for i in able if i < first and not is_evaluated[i]] + fresh
    labels = np.array([known.labels[i] if i < first else UNLABELLED for i in rows], np.int64)
    work = _Selection(places, features.values, np.array(rows), labels, known, max_pixels)
    chosen, near = work.distinct_choice(rule, count, seed)
    names = {first + k: name for k, (name, _) in enumerate(pool)}
    return LabelNext(
        images=work.images(chosen, names),
        rule=chosen.rule,
        labelled=known,
        num_unlabelled=len(fresh) - near,
        num_copies=num_copies + near,
        problems=problems,
        network=model_dir or "the default backbone",
        are_files=all(place.kind == "file" for place in places),
    )


Pool = list[tuple[str, Place]]


def _sources(
    unlabelled: Sequence[str], labelled: Sequence[str], label: str, cache_dir: str
) -> tuple[LabelledImages, Pool, dict[str, str]]:
    """The labelled images, the others with their names, and those that cannot be used."""
    if not labelled and len(unlabelled) == 1 and _is_table(unlabelled[0]):
        listing = find_examples(unlabelled, option="UNLABELLED", cache_dir=cache_dir)
        column = label or class_column(listing)
        values = listing.columns.get(column, ())
        has_class = np.array([value != "" for value in values], bool)
        if has_class.any() and not has_class.all():
            known = of_listings([listing], "UNLABELLED", column)
            rest = listing.select(np.flatnonzero(~has_class).tolist())
            pool = [(rest.places[i].path, rest.places[i]) for i in range(len(rest))]
            return known, pool, {each.where: each.reason for each in rest.damaged}
    known = _NO_LABELS
    if labelled:
        known = labelled_images(labelled, option="--labelled", label=label, cache_dir=cache_dir)
        if not len(known.places):
            known = dataclasses.replace(_NO_LABELS, label=known.label)
    pool, problems = [], {}
    for image in find_images(unlabelled):
        if image.place is not None:
            pool.append((image.name, image.place))
        else:
            problems[image.name] = str(image.content())
    return known, pool, problems


def _is_table(path: str) -> bool:
    path = os.path.expanduser(path)
    return files.exists(path) and not files.is_folder(path) and source_kind([path], "") == CSV


def _refuse_empty(unlabelled: Sequence[str], problems: dict[str, str]) -> None:
    first = next(iter(problems.items()), None)
    reason = (
        f" {counted(len(problems), 'image')} cannot be used, e.g. {': '.join(first)}."
        if first
        else ""
    )
    raise DataError(
        f"{', '.join(unlabelled)} holds no images that can be used.{reason} Name a folder of "
        "images, images, a CSV or another source of images."
    )


def _why_unusable(name: str, place: Place, max_pixels: int) -> str:
    found = measure_image(Row(name, place, {}, "", name), max_pixels or DEFAULT_MAX_PIXELS)
    return found.problem or "the model cannot take it"


def _whether_left(num_copies: int, problems: dict[str, str]) -> str:
    copies = counted(num_copies, "image is labelled already", "images are labelled already")
    return f"{copies}, {len(problems)} cannot be used"


def _distinct(
    values: npt.NDArray[np.float32], able: Sequence[int], first: int
) -> tuple[list[int], int]:
    """The unlabelled images without those whose content occurs before, and their number.

    Equal images have equal features to the bit: those of a content are computed once.
    """
    seen: set[bytes] = set()
    fresh, num_copies = [], 0
    for i in able:
        content = values[i].tobytes()
        if i >= first and content in seen:
            num_copies += 1
        elif i >= first:
            fresh.append(i)
        seen.add(content)
    return fresh, num_copies


class _Selection:
    """Chooses, and chooses again without near-duplicates."""

    def __init__(
        self,
        places: Sequence[Place],
        values: npt.NDArray[np.float32],
        rows: Ints,
        labels: Ints,
        known: LabelledImages,
        max_pixels: int,
    ) -> None:
        self._places, self._rows, self._labels, self._known = places, rows, labels, known
        self._max_pixels = max_pixels or DEFAULT_MAX_PIXELS
        self._space = probe_space(values[rows])
        self._stats: dict[int, ImageStats] = {}  # by row of the space

    def distinct_choice(self, rule: str, count: int, seed: int) -> tuple[Chosen, int]:
        """The choice, without near-duplicates of labelled or better images, and their number."""
        kept = np.arange(len(self._rows))
        num_near = 0
        for _ in range(_MOST_ROUNDS):
            chosen = choose(
                rule,
                self._space[kept],
                self._labels[kept],
                num_classes=len(self._known.classes),
                count=count,
                seed=seed,
            )
            numbers = kept[list(chosen.numbers)]
            repeated = self._repeated(numbers)
            if not repeated:
                break
            num_near += len(repeated)
            kept = kept[~np.isin(kept, list(repeated))]
        return dataclasses.replace(chosen, numbers=numbers.tolist()), num_near

    def _repeated(self, chosen: Ints) -> set[int]:
        """The chosen images that look like a labelled or a better one.

        Compared pixel by pixel are only the nearest neighbours, so the cost depends on the count.
        """
        from sklearn.neighbors import NearestNeighbors  # late: it takes a second

        others = np.concatenate([np.flatnonzero(self._labels != UNLABELLED), chosen])
        if len(others) < 2:
            return set()
        index = NearestNeighbors(n_neighbors=min(_NEIGHBOURS + 1, len(others)))
        nearest = index.fit(self._space[others]).kneighbors(self._space[chosen])[1]
        compared = sorted({*chosen.tolist(), *others[nearest].ravel().tolist()})
        rank = {number: place for place, number in enumerate(chosen.tolist())}
        out: set[int] = set()
        for group in same_pictures([self._measured(i) for i in compared]):
            members = [compared[k] for k in group]
            of_chosen = sorted((i for i in members if i in rank), key=rank.__getitem__)
            is_labelled = len(of_chosen) < len(members)
            out.update(of_chosen[0 if is_labelled else 1 :])
        return out

    def _measured(self, i: int) -> ImageStats:
        if i not in self._stats:
            place = self._places[self._rows[i]]
            row = Row(place.path, place, {}, "", place.path)
            self._stats[i] = measure_image(row, self._max_pixels)
        return self._stats[i]

    def images(self, chosen: Chosen, names: dict[int, str]) -> list[ImageToLabel]:
        """The chosen images with the class that the probe guesses."""
        has_label = self._labels != UNLABELLED
        classes = self._known.classes
        is_guessed = len(np.unique(self._labels[has_label])) > 1
        if is_guessed:
            with one_thread():
                probe = fit_probe(self._space[has_label], self._labels[has_label], len(classes))
            probabilities: Floats = probe.probabilities(self._space[list(chosen.numbers)])
        found = []
        for k, (i, score, reason) in enumerate(
            zip(chosen.numbers, chosen.scores, chosen.reasons, strict=True)
        ):
            guess, probability = "", float("nan")
            if is_guessed:
                best = int(probabilities[k].argmax())
                guess, probability = classes[best], float(probabilities[k, best])
            text = _named(reason, classes)
            name = names[int(self._rows[i])]
            found.append(ImageToLabel(name, text, score, guess, probability, self._measured(i)))
        return found


def _named(reason: str, classes: Sequence[str]) -> str:
    """A reason with the names of classes in place of their numbers in braces."""
    parts = reason.split("{")
    texts = [rest.split("}", 1) for rest in parts[1:]]
    return parts[0] + "".join(classes[int(number)] + after for number, after in texts)


def write_tables(path: str, found: LabelNext) -> list[str]:
    """Write the images to label, and the labelled ones beside; returns the paths.

    The column of the label is empty, for a person to fill in; a training reads both files
    together. The labelled images are not written if there are none.

    Args:
        path: CSV file to write.
        found: the choice.
    """
    label = found.labelled.label if found.labelled.label != _IMAGE else LABEL
    has_splits = any(found.labelled.splits)
    header = [_IMAGE, label, *(["split"] if has_splits else [])]
    rows = [
        [
            *(_absolute(one.path), "", *([TRAIN] if has_splits else [])),
            *(rank, f"{one.score:.4f}", one.reason, one.guess, _probability(one)),
        ]
        for rank, one in enumerate(found.images, start=1)
    ]
    more = ["rank", "score", "reason", "guess", "probability"]
    _write(path, [[*header, *more], *rows])
    known = found.labelled
    if not len(known.places) or not all(place.kind == "file" for place in known.places):
        return [path]
    beside = labelled_path(path)
    cells = (
        [_absolute(place.path), known.classes[number], *([split] if has_splits else [])]
        for place, number, split in zip(known.places, known.labels, known.splits, strict=True)
    )
    _write(beside, [header, *cells])
    return [path, beside]


def labelled_path(path: str) -> str:
    """The file with the labelled images beside a file with the images to label."""
    stem, ending = os.path.splitext(path)
    return f"{stem}-labelled{ending}"


def _probability(one: ImageToLabel) -> str:
    return f"{one.probability:.4f}" if one.guess else ""


def _absolute(path: str) -> str:
    return path if files.is_remote(path) or not os.path.exists(path) else os.path.abspath(path)


def _write(path: str, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def check_not_filled_in(path: str) -> None:
    """Refuse to overwrite a file in which a person has written labels.

    Raises:
        DataError: it has labels.
    """
    if files.is_remote(path) or not os.path.isfile(path):
        return
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as stream:
        table = csv.DictReader(stream)
        names = [name for name in table.fieldnames or () if name not in (_IMAGE, "split")]
        is_ours = "rank" in names and "reason" in names
        count = sum(bool((row[names[0]] or "").strip()) for row in table) if is_ours else 1
    if count:
        text = f"has {counted(count, 'label')}" if is_ours else "is another file"
        raise DataError(
            f"--output {path} exists and {text}. Choose another name"
            + (f", and give it with --labelled {path}." if is_ours else ".")
        )


def summary(found: LabelNext, count: int) -> list[str]:
    """Lines for people: what there was, what was left out, and the rule."""
    known = found.labelled
    per_class = len(known.places) / max(1, len(known.classes))
    labels = (
        f"{counted(len(known.places), 'label')} of "
        f"{counted(len(known.classes), 'class', 'classes')} "
        f"({per_class:.1f} per class)"
        if len(known.places)
        else "no labels yet"
    )
    lines = [f"{counted(found.num_unlabelled, 'image')} to choose from, {labels}"]
    if found.num_copies:
        lines.append(
            f"{counted(found.num_copies, 'image is', 'images are')} left out: labelled already, or "
            "copies of another one"
        )
    if found.problems:
        name, reason = next(iter(found.problems.items()))
        lines.append(
            f"{counted(len(found.problems), 'image')} cannot be used, e.g. {name}: {reason}"
        )
    fewer = f" ({count} were asked for)" if len(found.images) < count else ""
    lines.append(
        f"{counted(len(found.images), 'image')} to label{fewer}, by rule {found.rule} on the "
        f"features of {found.network}:"
    )
    return lines


def as_json(found: LabelNext) -> dict[str, Any]:
    """The choice as JSON values."""
    return {
        "rule": found.rule,
        "num_labels": len(found.labelled.places),
        "classes": list(found.labelled.classes),
        "num_unlabelled": found.num_unlabelled,
        "num_copies": found.num_copies,
        "problems": found.problems,
        "images": [
            {
                "path": one.path,
                "reason": one.reason,
                "score": one.score,
                "guess": one.guess,
                "probability": one.probability if one.guess else None,
            }
            for one in found.images
        ],
    }


def page_content(found: LabelNext) -> NextLabelsPage:
    """What the page shows."""
    lines = summary(found, len(found.images))
    return NextLabelsPage(
        label=found.labelled.label,
        classes=found.labelled.classes,
        others={"split": TRAIN} if any(found.labelled.splits) else {},
        lines=[line.rstrip(":") for line in lines],
        rows=[
            PageRow(
                one.stats,
                one.path,
                _absolute(one.path),
                f"{one.guess} {one.probability:.0%}" if one.guess else "",
                one.reason,
            )
            for one in found.images
        ],
    )
