"""``tfic label-next`` and ``tfic forecast`` as a user calls them; features are mean colours."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from browser import accessibility_violations, open_page
from tf_image_classification.cli.main import main
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.features.compute import Features
from tf_image_classification.workflows import forecast as forecasting
from tf_image_classification.workflows import label_next as choosing
from workflows.test_inspect import picture, saved

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220)}


def coloured(name, seed):
    """A picture of its own in a colour of its class."""
    pixels = np.asarray(picture(seed, (48, 64)), float)
    return Image.fromarray((0.5 * pixels + 0.5 * np.array(COLOURS[name])).astype(np.uint8))


def mean_colours(places, *, model_dir="", cache_dir="", max_pixels=0):
    """Small images as features, which tell the classes apart at once."""
    values, problems = np.zeros([len(places), 48], np.float32), {}
    for i, place in enumerate(places):
        try:
            image = Image.fromarray(decoder(10**8)(place.encoded()).numpy())
            values[i] = np.asarray(image.resize((4, 4), Image.Resampling.BOX)).ravel()
        except Exception as error:
            problems[i] = error
    return Features(values, problems, len(places))


@pytest.fixture(autouse=True)
def few_features(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(choosing, "image_features", mean_colours)
        monkeypatch.setattr(forecasting, "image_features", mean_colours)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """``pets`` with labels, ``pool`` without: two copies of labelled images, one broken file."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pets", 4)
    pool = tmp_path / "pool" / "below"
    pool.mkdir(parents=True)
    for k, name in enumerate(COLOURS):
        for i in range(10):
            (pool / f"{name}-{i}.jpg").write_bytes(saved(coloured(name, 1000 + 100 * k + i)))
    (pool / "same.jpg").write_bytes((tmp_path / "pets" / "red" / "0.jpg").read_bytes())
    again = Image.open(tmp_path / "pets" / "blue" / "0.jpg").resize((96, 72))
    (pool / "near.jpg").write_bytes(saved(again, quality=70))
    (pool / "broken.jpg").write_bytes(b"no image")
    return tmp_path


def write(folder, of_each):
    for k, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for i in range(of_each):
            content = saved(coloured(name, 100 * k + i))
            (folder / name / f"{i}.jpg").write_bytes(content)


def run(line):
    try:
        return main(line)
    except SystemExit as end:
        return end.code


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_csv_has_the_best_first_an_empty_label_and_the_labelled_images_beside(here, capsys):
    assert run(["label-next", "pool", "--labelled", "pets", "--count", "6"]) == 0
    printed = capsys.readouterr().out
    rows = rows_of("next.csv")
    assert [*rows[0]] == ["URIs", "label", "rank", "score", "reason", "guess", "probability"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert {row["label"] for row in rows} == {""}
    assert all(row["guess"] in COLOURS and 0 < float(row["probability"]) <= 1 for row in rows)
    known = rows_of("next-labelled.csv")
    assert len(known) == 12 and {row["label"] for row in known} == set(COLOURS)
    assert "1 image cannot be used, e.g. pool/below/broken.jpg: not an image" in printed
    command = "tfic train next-labelled.csv next.csv --label_columns label"
    assert printed.splitlines()[-1].endswith(command)


@pytest.mark.parametrize("rule", ["auto", "random", "margin", "diverse", "typical"])
def test_copies_of_labelled_images_are_never_asked_also_resized_ones(here, rule):
    found = choosing.label_next(["pool"], ["pets"], count=99, rule=rule)
    names = {image.path.rpartition("/")[2] for image in found.images}
    assert len(names) == 30 and not names & {"same.jpg", "near.jpg", "broken.jpg"}
    assert found.num_copies == 2 and list(found.problems) == ["pool/below/broken.jpg"]


def test_the_first_images_without_any_label_are_of_all_classes(here):
    found = choosing.label_next(["pool"], count=3)
    assert found.rule == "typical" and {image.guess for image in found.images} == {""}
    assert len({image.path.rpartition("/")[2].split("-")[0] for image in found.images}) == 3
    assert choosing.write_tables("first.csv", found) == ["first.csv"]


def test_filled_in_rows_are_labelled_images_of_the_next_round(here, capsys):
    run(["label-next", "pool", "--labelled", "pets", "--count", "6"])
    rows = rows_of("next.csv")
    for row in rows[:5]:
        row["label"] = row["URIs"].rpartition("/")[2].split("-")[0]
    with open("next.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    assert run(["label-next", "pool", "--labelled", "pets", "--output", "next.csv"]) == 1
    assert "has 5 labels" in capsys.readouterr().err
    line = ["label-next", "pool", "--labelled", "pets", "next.csv", "--output", "more.csv"]
    assert run([*line, "--count", "99"]) == 0
    asked = {row["URIs"] for row in rows_of("more.csv")}
    assert len(asked) == 25 and asked.isdisjoint(row["URIs"] for row in rows[:5])
    assert len(rows_of("more-labelled.csv")) == 17


@pytest.mark.slow
def test_a_training_reads_old_and_new_labels_together(here, capsys, monkeypatch):
    monkeypatch.setattr(choosing, "image_features", mean_colours)
    run(["label-next", "pool", "--labelled", "pets", "--count", "6"])
    lines = (here / "next.csv").read_text().splitlines()
    (here / "next.csv").write_text(
        "\n".join([lines[0], *(s.replace(",", ",red", 1) for s in lines[1:4])])
    )
    line = "train next-labelled.csv next.csv --label_columns label --plan --checkpoint_path none"
    assert run([*line.split(), "--image_size", "32", "--backbone", "mobilenet_v1_025"]) == 0
    assert "3 classes: blue 3, green 3, red " in capsys.readouterr().out


def test_one_csv_with_some_labels_is_both(here):
    rows = [["path", "colour"]]
    rows += [[f"pets/{name}/{i}.jpg", name if i < 2 else ""] for name in COLOURS for i in range(4)]
    (here / "all.csv").write_text("\n".join(map(",".join, rows)))
    found = choosing.label_next(["all.csv"], label="colour", count=99)
    assert len(found.labelled.places) == 6 and len(found.images) == 6
    assert found.labelled.label == "colour"


def test_images_of_the_evaluation_part_are_known_but_do_not_guide_the_choice(here):
    (here / "set").mkdir()
    (here / "pets").rename(here / "set" / "train")
    write(here / "set" / "val", 1)
    found = choosing.label_next(["pool"], ["set"], count=4)
    choosing.write_tables("next.csv", found)
    assert {row["split"] for row in rows_of("next.csv")} == {"train"}
    assert {row["split"] for row in rows_of("next-labelled.csv")} == {"train", "val"}


def test_nothing_to_label_is_an_error_that_names_the_reason(here):
    with pytest.raises(DataError, match="12 images are labelled already"):
        choosing.label_next(["pets"], ["pets"])
    (here / "empty").mkdir()
    with pytest.raises(DataError, match="no images that can be used"):
        choosing.label_next(["empty"], ["pets"])
    (here / "empty" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="1 image cannot be used"):
        choosing.label_next(["empty"])


def test_labels_that_are_not_one_class_are_rejected(here):
    rows = [f"pets/{name}/{i}.jpg,{name}|bright,{i / 7}" for name in COLOURS for i in range(4)]
    (here / "tags.csv").write_text("path,tags,age\n" + "\n".join(rows))
    with pytest.raises(DataError, match="multilabel"):
        choosing.label_next(["pool"], ["tags.csv"], label="tags")
    with pytest.raises(DataError, match="regression"):
        choosing.label_next(["pool"], ["tags.csv"], label="age")
    with pytest.raises(ConfigError, match="no such column"):
        choosing.label_next(["pool"], ["tags.csv"], label="tag")


def test_an_other_file_is_never_overwritten(here, capsys):
    (here / "next.csv").write_text("a,b\n1,2\n")
    assert run(["label-next", "pool"]) == 1
    assert "is another file" in capsys.readouterr().err
    assert run(["label-next", "pool", "--output", "other.txt"]) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_person_can_label_on_the_page(here, monkeypatch):
    monkeypatch.setattr(choosing, "image_features", mean_colours)
    run(["label-next", "pool", "--labelled", "pets", "--count", "5", "--page", "next.html"])
    with open_page((here / "next.html").as_uri()) as (page, complaints):
        inputs = page.locator("figure input")
        assert inputs.count() == 5 and page.locator("figure img").count() == 5
        inputs.nth(1).fill("red, dark")
        assert "Labelled: 1 of 5" in page.locator("#marked").inner_text()
        with page.expect_download() as download:
            page.locator("#download").click()
        [row] = rows_of(download.value.path())
        assert row == {"URIs": rows_of("next.csv")[1]["URIs"], "label": "red, dark"}
        assert complaints == []
        assert accessibility_violations(page) == []  # skips without axe-core


@pytest.mark.slow
def test_with_features_of_the_default_backbone_and_as_a_python_call(here, tmp_path):
    import tf_image_classification as tfic

    found = tfic.label_next("pool", "pets", count=4, cache_dir=str(tmp_path / "cache"))
    again = tfic.label_next("pool", ["pets"], count=4, cache_dir=str(tmp_path / "cache"))
    assert [one.path for one in found.images] == [one.path for one in again.images]
    assert len(found.images) == 4 and found.num_copies >= 1


def test_a_forecast_has_a_line_for_each_number_of_labels_and_class(here, capsys):
    write(here / "many", 16)
    line = ["forecast", "many", "--page", "forecast.html", "--json", "forecast.json"]
    assert run(line) == 0
    printed = capsys.readouterr().out
    for text in ("48 labels (now)", "72 labels", "192 labels", "blue ", "16 + 16"):
        assert text in printed
    written = json.loads((here / "forecast.json").read_text())
    assert written["num_labels"] == 48 and len(written["classes"]) == 3
    for target in written["overall"]:
        then = target["forecast"]["then"]
        assert 0 <= then["low"] <= then["value"] <= then["high"] <= 1
    text = (here / "forecast.html").read_text()
    assert "More labels for" in text and "90 % interval" in text


def test_a_forecast_of_too_few_labels_or_too_far_is_refused(here, capsys):
    assert run(["forecast", "pets"]) == 1
    assert "Expected two classes or more" in capsys.readouterr().err
    write(here / "few", 10)
    with pytest.raises(DataError, match="30 labels that can be used, too few"):
        forecasting.forecast(["few"])
    write(here / "many", 16)
    with pytest.raises(ConfigError, match="up to 4 times"):
        forecasting.forecast(["many"], labels=[1000])
    assert run(["forecast", "many", "--labels", "some"]) == 2


def test_classes_with_too_few_labels_and_unusable_images_are_left_out_and_counted(here):
    write(here / "many", 24)
    for i in range(3, 24):
        (here / "many" / "blue" / f"{i}.jpg").unlink()
    (here / "many" / "red" / "broken.jpg").write_bytes(b"no image")
    found = forecasting.forecast(["many"], more=500)
    assert found.num_labels == 48 and found.num_left_out == 4
    [blue] = [one for one in found.classes if one.name == "blue"]
    assert blue.forecast is None
    assert {one.more for one in found.classes if one.forecast} == {72}  # up to four times
