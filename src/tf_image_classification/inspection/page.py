"""The inspection as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from tf_image_classification import files
from tf_image_classification.inspection.facts import Facts
from tf_image_classification.inspection.verdict import Finding, Inspection, class_of

_MOST_SHOWN, _THUMBNAIL = 24, 128
_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; text-align: left;
  border-bottom: 1px solid var(--line); } td.number { text-align: right; }
section { border-top: 1px solid var(--line); margin-top: 1rem; }
.error h2::before { content: "error: "; color: #d33; }
.warning h2::before { content: "warning: "; color: #b70; }
.note h2::before { content: "note: "; color: #58a; }
h2 { font-size: 1.1rem; } .images { display: flex; flex-wrap: wrap; gap: .8rem; }
.group { display: flex; gap: .2rem; border: 1px solid var(--line); padding: .2rem; }
figure { margin: 0; width: 8rem; font-size: .75rem; overflow-wrap: anywhere; }
img { max-width: 8rem; max-height: 8rem; display: block; }
.bar { background: #58a; height: .8rem; }
"""


def write_page(path: str, inspection: Inspection, title: str) -> None:
    """Write the page.

    Args:
        path: file to write, local or remote.
        inspection: what to show.
        title: what was inspected.
    """
    files.write_bytes(path, page(inspection, title).encode())


def page(inspection: Inspection, title: str) -> str:
    """The whole file as text."""
    worst = inspection.worst or "nothing"
    usable = sum(not facts.problem for facts in inspection.facts)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{len(inspection.facts)} images, {usable} of them usable. Worst finding: {worst}.</p>",
        _class_table(inspection),
        *(_section(finding, inspection) for finding in inspection.findings),
        _statistics(inspection),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _class_table(inspection: Inspection) -> str:
    counts = inspection.classes()
    if not counts:
        return ""
    sets = list(dict.fromkeys(inspection.sets))
    most = max(max(count.values()) for count in counts.values()) or 1
    rows = [
        f"<tr><th scope=row>{html.escape(name)}</th>"
        + "".join(f"<td class=number>{count.get(s, 0)}</td>" for s in sets)
        + f"<td><div class=bar style='width:{12 * max(count.values()) / most:.1f}rem'></div></td>"
        + "</tr>"
        for name, count in counts.items()
    ]
    head = "".join(f"<th scope=col>{name}</th>" for name in sets)
    return f"<table><tr><th scope=col>class</th>{head}<td></td></tr>{''.join(rows)}</table>"


def _section(finding: Finding, inspection: Inspection) -> str:
    groups = "".join(
        f"<div class=group>{''.join(_figure(inspection, i) for i in group)}</div>"
        for group in finding.members[:_MOST_SHOWN]
    )
    more = len(finding.members) - _MOST_SHOWN
    rest = f"<p>and {more} more, listed in the JSON file</p>" if more > 0 else ""
    name = html.escape(finding.kind.replace("_", " "))
    return (
        f'<section class="{finding.severity}"><h2>{name}</h2>'
        f"<p>{html.escape(finding.text)}</p><div class=images>{groups}</div>{rest}</section>"
    )


def _figure(inspection: Inspection, i: int) -> str:
    facts = inspection.facts[i]
    label = class_of(facts, inspection.label)
    text = html.escape(f"{inspection.sets[i]}: {facts.where}" + (f" ({label})" if label else ""))
    data = _thumbnail(facts)
    image = f'<img alt="" src="data:image/jpeg;base64,{data}">' if data else ""
    problem = f"<b>{html.escape(facts.problem)}</b>" if facts.problem else ""
    return f"<figure>{image}<figcaption>{text} {problem}</figcaption></figure>"


def _thumbnail(facts: Facts) -> str:
    """A small JPEG in base64; "" where there is no picture."""
    from PIL import Image  # late: half a second

    if facts.problem or facts.place is None:
        return ""
    data = facts.place.read()
    if isinstance(data, bytes):
        from tf_image_classification.dataset.decode import decode_image  # late: TensorFlow

        data = decode_image(data, max_pixels=10**9).numpy()
    image = Image.fromarray(data).convert("RGB")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return base64.b64encode(out.getvalue()).decode()


def _statistics(inspection: Inspection) -> str:
    import numpy as np

    usable = [facts for facts in inspection.facts if not facts.problem]
    if not usable:
        return ""
    measures: dict[str, Sequence[float]] = {
        "width, pixels": [f.width for f in usable],
        "height, pixels": [f.height for f in usable],
        "brightness, 0-255": [f.brightness for f in usable],
        "contrast": [f.contrast for f in usable],
        "sharpness": [f.sharpness for f in usable],
        "saturation": [f.saturation for f in usable],
        "detail, share of the resolution": [f.detail for f in usable],
    }
    rows = []
    for name, values in measures.items():
        cells = np.percentile(values, [0, 10, 50, 90, 100])
        numbers = "".join(f"<td class=number>{value:.3g}</td>" for value in cells)
        rows.append(f"<tr><th scope=row>{name}</th>{numbers}</tr>")
    head = "".join(f"<th scope=col>{p}</th>" for p in ("least", "10 %", "median", "90 %", "most"))
    table = f"<table><tr><td></td>{head}</tr>{''.join(rows)}</table>"
    return f"<section><h2>statistics</h2>{table}</section>"
