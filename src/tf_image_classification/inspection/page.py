"""The inspection as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import collections
import html
import importlib.resources
import io
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tf_image_classification.errors import counted
from tf_image_classification.inspection.findings import (
    EVALUATION,
    SEVERITIES,
    TRAIN,
    Finding,
    Inspection,
    class_of,
)
from tf_image_classification.inspection.image_stats import Facts, picture_of
from tf_image_classification.system import files

_MOST_GROUPS, _MOST_OF_A_GROUP = 24, 8
_MOST_ROWS = 25  # of a table, before the rest is folded
_THUMBNAIL = 192  # pixels: sharp on screens of two pixels a point as well
_NUM_BINS = 32
_TITLES = {
    "absent_in_eval": "Classes absent from the evaluation set",
    "absent_in_train": "Classes absent from the training set",
    "aspect": "Long images",
    "broken": "Images that cannot be decoded",
    "cmyk": "CMYK",
    "conflicts": "One picture, different labels",
    "drift": "The sets differ",
    "duplicates": "Duplicates",
    "enlarged": "Little detail",
    "few": "Classes with few images",
    "flat_end": "Cut short",
    "group_leak": "Groups in both sets",
    "label_errors": "Candidates for wrong labels",
    "leak": "Evaluation images in the training set",
    "left_out": "Left out",
    "narrow_16_bits": "16-bit PNGs that become black",
    "one_class": "One class only",
    "one_colour": "Images of one colour",
    "other_formats": "Formats that are not read",
    "small": "Small images",
    "turned_by_exif": "Rotated by EXIF",
    "wrong_ending": "Wrong file name extension",
}


def write_page(path: str, inspection: Inspection, title: str) -> None:
    """Write the page.

    Args:
        path: file to write, local or remote.
        inspection: what to show.
        title: what was inspected.
    """
    files.write_bytes(path, page(inspection, title).encode("utf-8", "replace"))


def page(inspection: Inspection, title: str) -> str:
    """The whole file as text."""
    style = importlib.resources.files(__package__).joinpath("page.css").read_text("utf-8")
    parts = [
        f"<header><h1>Inspection of {html.escape(title)}</h1>{_subtitle(inspection)}</header>",
        _tiles(inspection),
        _contents(inspection),
        *(_labels(inspection, label) for label in inspection.labels),
        *(_section(number, f, inspection) for number, f in enumerate(inspection.findings)),
        _statistics(inspection),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Inspection of {html.escape(title)}</title><style>{style}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _subtitle(inspection: Inspection) -> str:
    judged = ", ".join(inspection.labels) or "none"
    text = f"Labels judged: {judged}."
    if inspection.not_judged:
        others = ", ".join(f"{name} ({why})" for name, why in inspection.not_judged.items())
        text += f" Columns not judged: {others}."
    return f"<p>{html.escape(text)}</p>"


def _tiles(inspection: Inspection) -> str:
    broken = sum(bool(facts.problem) for facts in inspection.facts)
    sets = collections.Counter(inspection.sets)
    numbers: dict[str, int] = {"images": len(inspection.facts)}
    if len(sets) > 1:
        numbers |= {"training": sets[TRAIN], "evaluation": sets[EVALUATION]}
    numbers |= {"cannot be decoded": broken, "left out": len(inspection.left_out)}
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in inspection.findings)
        numbers[severity if count == 1 else f"{severity}s"] = count
    tiles = (f"<li><b>{count:,}</b><span>{name}</span></li>" for name, count in numbers.items())
    return f"<ul class=tiles>{''.join(tiles)}</ul>"


def _contents(inspection: Inspection) -> str:
    if not inspection.findings:
        return "<section><h2>No problems found</h2></section>"
    rows = [
        f'<li class="{f.severity}"><span class=severity>{f.severity}</span> '
        f'<a href="#finding-{number}">{_title(f)}</a>{_label_of(f, inspection)}</li>'
        for number, f in enumerate(inspection.findings)
    ]
    return f"<section><h2>Findings</h2><ul class=contents>{''.join(rows)}</ul></section>"


def _title(finding: Finding) -> str:
    return html.escape(_TITLES.get(finding.kind) or finding.kind.replace("_", " ").capitalize())


def _label_of(finding: Finding, inspection: Inspection) -> str:
    if not finding.label or len(inspection.labels) < 2:
        return ""
    return f" <span class=label>{html.escape(finding.label)}</span>"


def _labels(inspection: Inspection, label: str) -> str:
    """The classes of a label with their images in each set."""
    counts = inspection.classes(label)
    if not counts:
        return ""
    sets = list(dict.fromkeys(inspection.sets))
    most = max(max(count.values()) for count in counts.values()) or 1
    head = "".join(f'<th scope=col class="number key {s}">{s}</th>' for s in sets)
    rows = [
        f"<tr><th scope=row>{html.escape(name)}</th>"
        + "".join(f"<td class=number>{count[s]:,}</td>" for s in sets)
        + f"<td class=bars>{_bars(count, most)}</td></tr>"
        for name, count in counts.items()
    ]
    title = f"Label {html.escape(label)}: {counted(len(counts), 'class', 'classes')}"
    table = _table(f"<tr><th scope=col>class</th>{head}<td></td></tr>", rows)
    return f"<section><h2>{title}</h2>{table}</section>"


def _bars(count: Mapping[str, int], most: int) -> str:
    return "".join(
        f'<div class="bar {name}" style="width:{100 * number / most:.1f}%"></div>'
        for name, number in count.items()
        if number
    )


def _table(head: str, rows: Sequence[str]) -> str:
    """A table whose rows beyond the first ones are folded away."""

    def table(rows: Iterable[str]) -> str:
        body = "".join(rows)
        return f"<div class=scroll><table><thead>{head}</thead><tbody>{body}</tbody></table></div>"

    shown = table(rows[:_MOST_ROWS])
    rest = rows[_MOST_ROWS:]
    if not rest:
        return shown
    return f"{shown}<details><summary>{len(rest):,} more</summary>{table(rest)}</details>"


def _section(number: int, finding: Finding, inspection: Inspection) -> str:
    bodies = {"broken": _broken, "left_out": _left_out}
    body = bodies.get(finding.kind, _groups)(finding, inspection)
    return (
        f'<section class="{finding.severity}" id="finding-{number}">'
        f"<span class=severity>{finding.severity}</span>"
        f"<h2>{_title(finding)}{_label_of(finding, inspection)}</h2>"
        f"<p>{html.escape(finding.text)}</p>{body}</section>"
    )


def _groups(finding: Finding, inspection: Inspection) -> str:
    groups = "".join(_group(inspection, group) for group in finding.members[:_MOST_GROUPS])
    more = len(finding.members) - _MOST_GROUPS
    rest = f"<p class=rest>{more:,} more in the JSON file (--json)</p>" if more > 0 else ""
    return f"<div class=images>{groups}</div>{rest}" if groups else ""


def _broken(finding: Finding, inspection: Inspection) -> str:
    facts = inspection.facts
    rows = [_row(facts[i].where, facts[i].problem) for [i] in finding.members]
    return _table("<tr><th scope=col>image</th><th scope=col>problem</th></tr>", rows)


def _left_out(finding: Finding, inspection: Inspection) -> str:
    """Every file and row that was left out, with its reason; what is damaged first."""
    ordered = sorted(inspection.left_out, key=lambda each: not each.is_damaged)
    rows = [_row(each.where, each.reason) for each in ordered]
    return _table("<tr><th scope=col>file or row</th><th scope=col>reason</th></tr>", rows)


def _row(where: str, reason: str) -> str:
    return f"<tr><td class=where>{html.escape(where)}</td><td>{html.escape(reason)}</td></tr>"


def _group(inspection: Inspection, group: Sequence[int]) -> str:
    figures = "".join(_figure(inspection, i) for i in group[:_MOST_OF_A_GROUP])
    more = len(group) - _MOST_OF_A_GROUP
    rest = f"<span class=rest>{more:,} more</span>" if more > 0 else ""
    several = " several" if len(group) > 1 else ""
    return f'<div class="group{several}">{figures}{rest}</div>'


def _figure(inspection: Inspection, i: int) -> str:
    facts = inspection.facts[i]
    where = html.escape(facts.where, quote=True)
    name = html.escape(os.path.basename(facts.key) or facts.where)
    classes = ", ".join(filter(None, (class_of(facts, label) for label in inspection.labels)))
    data = _thumbnail(facts)
    image = f'<img alt="" src="data:image/jpeg;base64,{data}">' if data else ""
    problem = f"<b>{html.escape(facts.problem)}</b>" if facts.problem else ""
    return (
        f'<figure title="{where}">{image}<figcaption><span class=file>{name}</span>'
        f"<b>{html.escape(classes)}</b> <span class=set>{inspection.sets[i]}</span>{problem}"
        "</figcaption></figure>"
    )


def _thumbnail(facts: Facts) -> str:
    """A small JPEG in base64; "" where there is no picture."""
    from PIL import Image  # late: half a second

    if facts.problem or facts.place is None:
        return ""
    image = Image.fromarray(picture_of(facts, max_pixels=10**9))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=75)
    return base64.b64encode(out.getvalue()).decode()


def _statistics(inspection: Inspection) -> str:
    usable = [facts for facts in inspection.facts if not facts.problem]
    if not usable:
        return ""
    measures: dict[str, Sequence[float]] = {
        "width, pixels": [f.width for f in usable],
        "height, pixels": [f.height for f in usable],
        "file size, kB": [f.num_bytes / 1000 for f in usable if f.num_bytes],
        "brightness, 0-255": [f.brightness for f in usable],
        "contrast, standard deviation": [f.contrast for f in usable],
        "sharpness, logarithmic": [f.sharpness for f in usable],
        "saturation": [f.saturation for f in usable],
        "detail, fraction of the resolution": [f.detail for f in usable],
    }
    rows = []
    for name, values in measures.items():
        if not values:
            continue
        cells = np.percentile(values, [0, 10, 50, 90, 100])
        numbers = "".join(f"<td class=number>{_number(value)}</td>" for value in cells)
        rows.append(f"<tr><th scope=row>{name}</th>{numbers}<td>{_histogram(values)}</td></tr>")
    columns = ("min", "10 %", "median", "90 %", "max")
    head = "".join(f"<th scope=col class=number>{name}</th>" for name in columns)
    head = f"<tr><td></td>{head}<th scope=col>distribution</th></tr>"
    return f"<section><h2>Statistics</h2>{_table(head, rows)}</section>"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _histogram(values: Sequence[float]) -> str:
    counts, _ = np.histogram(values, bins=_NUM_BINS)
    heights = np.where(counts, np.maximum(20 * counts / counts.max(), 0.6), 0)
    bars = "".join(
        f'<rect x="{4 * i}" y="{20 - height:.1f}" width="3" height="{height:.1f}"/>'
        for i, height in enumerate(heights.tolist())
        if height
    )
    return f'<svg width="{4 * _NUM_BINS}" height="20" role="img" aria-hidden="true">{bars}</svg>'
