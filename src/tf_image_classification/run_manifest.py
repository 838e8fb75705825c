"""``RunManifest`` (run.json): spec, labels, data fingerprints and settings that identify a run."""

from __future__ import annotations

import dataclasses
import json
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tf_image_classification
from tf_image_classification.config import FROM_SCRATCH, IMAGENET, OPTIONS, Settings
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.schema import with_kinds_named

ARITHMETIC = 2
"""Raised by a version whose training steps differ in their rounding from those before.

1: batch normalisation in TensorFlow's fused operation, or folded into convolutions.
2: gradients of Swish, GELU and similar activations compiled.
"""

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy")


@dataclasses.dataclass(frozen=True)
class RunManifest:
    """The identity of a run: another run with an equal manifest may continue it.

    Attributes:
        spec: the spec's class, with the file or module it comes from.
        spec_source: SHA-256 of that file; "" without one, and for the package's own spec.
        schema: the labels with their vocabularies.
        train_data: fingerprint of the training set.
        num_train_examples: its number of examples, or None when a spec's own input gives them.
        eval_data: fingerprint of the evaluation set, or "" without one.
        settings: all settings by name.
        origins: the origin of each setting that was given, e.g. "flag".
        arithmetic: ``ARITHMETIC`` of the version that began the run.
        teachers: fingerprints of the models that the run learns from; () without any.
        combined: of a folder that ``tfic combine`` wrote: "how" it was and its "members"; then the
            rest describes the first member. Else empty.
    """

    spec: str
    spec_source: str
    schema: LabelSchema
    train_data: str
    num_train_examples: int | None
    eval_data: str
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    arithmetic: int = ARITHMETIC
    teachers: Sequence[str] = ()
    combined: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of run.json."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["labels"] = values.pop("schema").to_json()
        return values | {"versions": versions()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunManifest:
        """The manifest in the content of run.json.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, SpecError: it is damaged.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name != "schema"]
        values = {"arithmetic": 0, "teachers": (), "combined": {}, **values}
        found = {name: values[name] for name in names}
        found |= {"settings": dict(found["settings"]), "origins": dict(found["origins"])}
        found["teachers"] = tuple(found["teachers"])
        return cls(schema=LabelSchema.from_json(values["labels"]), **found)

    def model_facts(self) -> dict[str, str]:
        """The network, its initial weights and its image size, by name, for people."""
        given = self.settings
        weights = given.get("checkpoint_path") or FROM_SCRATCH
        known = {IMAGENET: "ImageNet", FROM_SCRATCH: "random"}
        network = str(given["backbone"] if self.is_of_backbone else self.spec.rpartition(":")[2])
        if self.combined:
            networks = ", ".join(dict.fromkeys(self.combined["networks"]))
            count = len(self.combined["members"])
            network = f"{self.combined['how']} of {count} models ({networks})"
        return {
            "network": network,
            "initial weights": known.get(weights, str(weights)),
            "image size": f"{given['image_size']} x {given['image_size']} pixels",
        }

    @property
    def is_of_backbone(self) -> bool:
        """Whether the run has the package's own spec, with its preprocessing."""
        return bool(self.settings.get("backbone")) and self.spec.endswith(":BackboneSpec")

    @property
    def has_pretrained_weights(self) -> bool:
        """Whether the run started from the weights of ``checkpoint_path``."""
        return self.settings.get("checkpoint_path", "") not in ("", FROM_SCRATCH)

    def digest(self) -> int:
        """A checksum of everything that must be equal for one run to continue another."""
        settings = {name: _comparable(name, self.settings[name]) for name in _fixed_settings()}
        parts = (
            _class_name(self.spec),
            self.spec_source,
            self.schema.to_json(),
            self.train_data,
            self.eval_data,
            list(self.teachers),
            settings,
        )
        return zlib.crc32(json.dumps(parts, sort_keys=True).encode())

    def differences(self, other: RunManifest) -> list[str]:
        """The differences that keep another run from continuing this one, as phrases."""
        found = []
        if _class_name(self.spec) != _class_name(other.spec):
            found.append(f"spec: {self.spec} there, {other.spec} now")
        elif other.spec_source and self.spec_source != other.spec_source:
            found.append(f"spec: the source of {self.spec} there, other code in {other.spec} now")
        if self.schema != other.schema:
            found.append(f"labels: {_names(self.schema)} there, {_names(other.schema)} now")
        if self.train_data != other.train_data:
            found.append(
                f"training set: {self.num_train_examples} examples ({self.train_data[:12]}) there, "
                f"{other.num_train_examples} ({other.train_data[:12]}) now"
            )
        if self.eval_data and other.eval_data and self.eval_data != other.eval_data:
            found.append(
                f"evaluation set: {self.eval_data[:12]} there, {other.eval_data[:12]} now, so that "
                "the best checkpoint would be chosen between different sets"
            )
        if list(self.teachers) != list(other.teachers):
            there, now = (
                ", ".join(one[:12] for one in run.teachers) or "none" for run in (self, other)
            )
            found.append(f"teacher: {there} there, {now} now, by the content of its exported model")
        for name in _fixed_settings():
            there = _comparable(name, self.settings.get(name, OPTIONS[name].default))
            now = _comparable(name, other.settings[name])
            if there != now:
                found.append(f"{name}: {there!r} there, {now!r} now")
        return found


def make_manifest(
    *,
    spec: str,
    spec_source: str,
    schema: LabelSchema,
    train_data: str,
    num_train_examples: int | None,
    eval_data: str,
    settings: Settings,
    teachers: Sequence[str] = (),
) -> RunManifest:
    """The manifest of a run that is about to start; arguments as the attributes of the manifest."""
    return RunManifest(
        spec=spec,
        spec_source=spec_source,
        schema=schema,
        train_data=train_data,
        num_train_examples=num_train_examples,
        eval_data=eval_data,
        settings={name: _comparable(name, value) for name, value in settings.values().items()},
        origins=dict(settings.origins),
        teachers=tuple(teachers),
    )


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that affect the results."""
    import importlib.metadata  # late: only new runs need it

    found = {"tf_image_classification": tf_image_classification.__version__}
    found["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _fixed_settings() -> Iterator[str]:
    """Names of the settings that a resumed run must not change."""
    return (name for name, option in OPTIONS.items() if option.resume == "same")


def _class_name(spec: str) -> str:
    return spec.rpartition(":")[2]


def _comparable(name: str, value: Any) -> Any:
    """A setting's value as JSON has it, with the current names of label kinds."""
    if name == "label_kinds":
        return with_kinds_named(value)
    return list(value) if isinstance(value, tuple) else value


def _names(schema: LabelSchema) -> str:
    return ", ".join(
        f"{label.name} ({' '.join(label.named_classes()[:10]) or 'real'})" for label in schema
    )
