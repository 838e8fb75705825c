"""Model folders whose files have the earlier names of label kinds."""

import json
import pathlib
import re

import numpy as np
import pytest
from pyarrow import parquet

import tiny_runs
from tf_image_classification import evaluate
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.report import write_report
from workflows.test_label_kinds import MixedSpec, csv

__all__ = ["csv"]  # the fixture

EARLIER = {"single-label": "class", "multilabel": "several", "regression": "value"}


def with_earlier_names(text):
    for kind, earlier in EARLIER.items():
        text = text.replace(f'"kind": "{kind}"', f'"kind": "{earlier}"')
    return re.sub(r'"arithmetic": \d+,?', "", text.replace('"is_multilabel"', '"is_several"'))


@pytest.mark.slow
def test_an_earlier_folder_is_evaluated_resumed_and_reported(csv, tmp_path, capsys):
    model_dir = tmp_path / "model"
    tiny_runs.run(MixedSpec(), model_dir, csv, csv, train_steps=4, export_saved_model=True)
    settings = tiny_runs.tiny_settings(model_dir, csv, csv)
    expected = evaluate(None, settings).metrics
    folder = ModelFolder(str(model_dir))
    stored = read_predictions(folder.predictions)

    changed = set()
    for path in pathlib.Path(model_dir).rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        if with_earlier_names(text) != text:
            path.write_text(with_earlier_names(text), encoding="utf-8")
            changed.add(path.name)
    assert {"run.json", "labels.json", "step.json"} <= changed
    table = parquet.read_table(folder.predictions)
    metadata = {k: with_earlier_names(v.decode()) for k, v in table.schema.metadata.items()}
    assert metadata != {k: v.decode() for k, v in table.schema.metadata.items()}
    parquet.write_table(table.replace_schema_metadata(metadata), folder.predictions)

    again = read_predictions(folder.predictions)
    assert again.schema == stored.schema
    np.testing.assert_array_equal(again.labels["tags"].truth, stored.labels["tags"].truth)
    page, _ = write_report(settings, is_inspected=False)
    assert "mean average precision" in pathlib.Path(page).read_text(encoding="utf-8")
    assert evaluate(None, settings).metrics == pytest.approx(expected, nan_ok=True)
    capsys.readouterr()
    resumed = tiny_runs.run(MixedSpec(), model_dir, csv, csv, train_steps=6)
    assert resumed.step == 6
    assert "the run was begun by an older version" in capsys.readouterr().out
    assert folder.read_manifest().arithmetic == 0
    assert {label["kind"] for label in json.loads((model_dir / "labels.json").read_text())} == {
        "single-label", "ordinal", "multilabel", "regression",
    }  # fmt: skip
