"""Inspection: planted faults are found by their kind, known ones in real data, none in clean."""

import dataclasses
import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import open_page
from tf_image_classification.cli import convert as convert_verb
from tf_image_classification.cli import inspect as inspect_verb
from tf_image_classification.cli import train as train_verb
from tf_image_classification.dataset.readers import Place, Row
from tf_image_classification.errors import ConfigError
from tf_image_classification.inspection import duplicates
from tf_image_classification.inspection import page as page_module
from tf_image_classification.inspection.features import feature_findings
from tf_image_classification.inspection.findings import Finding, Inspection, Suggestion
from tf_image_classification.inspection.image_stats import measure_image
from tf_image_classification.inspection.page import page
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.inspect import as_json, inspect, write_clean_csv

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def picture(seed, size=(96, 128)):
    """A smooth picture of its own, with some grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, [6, 8, 3]).astype(np.uint8))
    pixels = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC), float)
    pixels = pixels + random.normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def saved(image, kind="JPEG", **options):
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 90} if kind == "JPEG" else {}) | options)
    return data.getvalue()


def photograph(seed, side):
    """A picture whose power falls with the square of the frequency, as that of photographs does."""
    random = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    spectrum = np.fft.rfft2(random.normal(size=(side, side))) / radius
    grey = np.fft.irfft2(spectrum, (side, side))
    grey = 127 + 50 * (grey - grey.mean()) / grey.std()
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.fixture
def clean(tmp_path):
    for part, first in (("train", 0), ("eval", 100)):
        for number, name in enumerate(("bee", "ant")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(15):
                data = saved(picture(first + 50 * number + i))
                (tmp_path / part / name / f"{i}.jpg").write_bytes(data)
    return tmp_path


def kinds(inspection):
    return {finding.kind: finding for finding in inspection.findings}


def test_a_clean_set_has_no_findings(clean):
    found = inspect(str(clean / "train"), str(clean / "eval"), num_processes=1)
    assert found.findings == () and found.worst == ""
    assert found.classes("label") == {
        "ant": {"train": 15, "eval": 15},
        "bee": {"train": 15, "eval": 15},
    }


def test_a_divided_set_is_compared_by_its_splits(clean):
    whole = inspect(str(clean))
    for evaluation in (str(clean), f"{clean}:eval", str(clean / "eval")):
        found = inspect(str(clean), evaluation)
        assert kinds(found) == {} and sorted(found.sets) == sorted(whole.sets)
    copy = (clean / "train" / "bee" / "0.jpg").read_bytes()
    (clean / "eval" / "bee" / "copy.jpg").write_bytes(copy)
    [leak] = [f for f in inspect(str(clean), str(clean)).findings if f.kind == "leak"]
    assert [len(group) for group in leak.members] == [2]


def test_planted_faults_are_found_by_their_kind(clean):
    bee, other = clean / "train" / "bee", clean / "eval" / "ant"
    (bee / "cut.jpg").write_bytes(saved(picture(900))[:900])
    (bee / "really.png").write_bytes(saved(picture(901)))
    tail = np.asarray(picture(902)).copy()
    tail[70:] = 128
    (bee / "tail.jpg").write_bytes(saved(Image.fromarray(tail), quality=100))
    (bee / "one, two.jpg").write_bytes(saved(picture(903)))
    exif = Image.Exif()
    exif[274] = 6
    (bee / "turned.jpg").write_bytes(saved(picture(904), exif=exif.tobytes()))
    (bee / "cmyk.jpg").write_bytes(saved(picture(905).convert("CMYK")))
    (bee / "clear.png").write_bytes(saved(picture(906).convert("RGBA"), "PNG"))
    frames = [picture(907), picture(908)]
    (bee / "moves.gif").write_bytes(
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    )
    (bee / "long.jpg").write_bytes(saved(picture(909, (40, 400))))
    (bee / "tiny.jpg").write_bytes(saved(picture(910, (16, 20))))
    (bee / "enlarged.jpg").write_bytes(saved(photograph(911, 100).resize((300, 300))))
    (bee / "sharp.jpg").write_bytes(saved(photograph(912, 300)))
    (bee / "notes.txt").write_text("x")
    copy = (bee / "3.jpg").read_bytes()
    (bee / "copy.jpg").write_bytes(copy)
    (clean / "train" / "ant" / "conflict.jpg").write_bytes((bee / "4.jpg").read_bytes())
    leak = Image.open(clean / "train" / "ant" / "5.jpg")
    (other / "leak.jpg").write_bytes(saved(leak.resize((120, 90)), quality=70))
    (clean / "train" / "wasp").mkdir()
    (clean / "train" / "wasp" / "w.jpg").write_bytes(saved(picture(950)))
    found = inspect(str(clean / "train"), str(clean / "eval"), num_processes=2)
    by_kind = kinds(found)
    names = {
        kind: [[os.path.basename(found.images[i].key) for i in group] for group in finding.members]
        for kind, finding in by_kind.items()
    }
    assert names["broken"] == [["cut.jpg"]] and "cut short" in by_kind["broken"].text
    assert names["wrong_ending"] == [["really.png"]] and names["flat_end"] == [["tail.jpg"]]
    assert names["awkward_names"] == [["one, two.jpg"]]
    assert names["turned_by_exif"] == [["turned.jpg"]] and names["cmyk"] == [["cmyk.jpg"]]
    assert names["transparent"] == [["clear.png"]] and names["animated"] == [["moves.gif"]]
    assert names["aspect"] == [["long.jpg"]] and names["small"] == [["tiny.jpg"]]
    assert names["enlarged"] == [["enlarged.jpg"]]
    assert names["duplicates"] == [["3.jpg", "copy.jpg"]]
    assert sorted(names["conflicts"][0]) == ["4.jpg", "conflict.jpg"]
    assert names["leak"] == [["5.jpg", "leak.jpg"]]
    assert "wasp (1)" in by_kind["few"].text and "wasp" in by_kind["absent_in_eval"].text
    assert (
        by_kind["imbalance"].severity == "warning" and "1 file or row" in by_kind["left_out"].text
    )
    assert found.worst == "error"
    errors = [finding.severity for finding in found.findings]
    assert errors == sorted(errors, key=("error", "warning", "note").index)


def test_all_copies_of_a_picture_form_one_group(clean):
    """Also those that are not beside each other, and those that are only near to a copy."""
    train, other = clean / "train", clean / "eval"
    copy = (train / "ant" / "0.jpg").read_bytes()
    for path in (train / "ant" / "z.jpg", train / "bee" / "z.jpg", other / "ant" / "z.jpg"):
        path.write_bytes(copy)
    near = saved(Image.open(train / "ant" / "0.jpg"), quality=60)
    (other / "bee" / "near.jpg").write_bytes(near)
    found = inspect(str(train), str(other), num_processes=1)
    by_kind = kinds(found)
    assert "2 of 32 evaluation images" in by_kind["leak"].text
    assert "1 of them with equal pixels" in by_kind["leak"].text
    clean_csv = clean / "clean.csv"
    assert write_clean_csv(str(clean_csv), found) == 32 - 3
    again = inspect(str(clean_csv), str(other), num_processes=1)
    assert "leak" not in kinds(again)
    alone = inspect(str(train), num_processes=1)
    (members,) = kinds(alone)["conflicts"].members
    assert sorted(alone.images[i].key for i in members) == ["ant/0.jpg", "ant/z.jpg", "bee/z.jpg"]


def test_people_in_both_sets_and_a_drift_are_found(clean):
    lines = {"train": ["URIs,labels,person"], "eval": ["URIs,labels,person"]}
    for part, offset in (("train", 0), ("eval", 12)):
        for number, name in enumerate(("bee", "ant")):
            for i in range(15):
                path = clean / part / name / f"{i}.jpg"
                if part == "eval":
                    dark = np.asarray(Image.open(path)) // 3
                    path.write_bytes(saved(Image.fromarray(dark)))
                lines[part].append(f"{part}/{name}/{i}.jpg,{name},p{offset + i + 40 * number}")
        (clean / f"{part}.csv").write_text("\n".join(lines[part]))
    tables = str(clean / "train.csv"), str(clean / "eval.csv")
    found = inspect(*tables, group="person", num_processes=1)
    by_kind = kinds(found)
    assert "6 values of person" in by_kind["group_leak"].text
    assert "brightness -" in by_kind["drift"].text


@pytest.mark.parametrize("named", [{"num_processes": -1}, {"max_pixels": 0}])
def test_numbers_that_are_too_small_are_refused(clean, named):
    with pytest.raises(ConfigError, match="expected [01] or more"):
        inspect(str(clean / "train"), **named)


@pytest.mark.parametrize("named", [{"group": "persn"}, {"label": "labl"}])
def test_a_missing_column_is_reported_before_an_image_is_read(clean, named, monkeypatch):
    (clean / "t.csv").write_text("URIs,labels,person\ntrain/bee/1.jpg,bee,p\n")
    monkeypatch.setattr(Place, "read", None)
    with pytest.raises(ConfigError, match=r"persn.*Did you mean person|labl: no such column"):
        inspect(str(clean / "t.csv"), num_processes=1, **named)


def test_pages_csv_and_json_hold_what_was_found(clean, tmp_path, capsys):
    bee = clean / "train" / "bee"
    (bee / "cut.jpg").write_bytes(saved(picture(900))[:900])
    (clean / "train" / "ant" / "conflict <b>.jpg").write_bytes((bee / "4.jpg").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in clean.rglob("*.jpg")}
    line = [str(clean / "train"), "--page", str(out / "p.html"), "--json", str(out / "v.json")]
    line += ["--write_csv", str(out / "clean.csv"), "--processes", "1"]
    assert inspect_verb.main(line) == 1
    printed = capsys.readouterr().out
    assert (
        "error: broken: 1 image cannot be decoded" in printed and "clean.csv: 29 images" in printed
    )
    stored = json.loads((out / "v.json").read_text())
    assert stored["worst"] == "error" and stored["num_images"] == 32
    assert {finding["kind"] for finding in stored["findings"]} == {"broken", "conflicts"}
    text = (out / "p.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 2 and "conflict &lt;b&gt;.jpg" in text
    assert not re.search(r"https?://|src=\"(?!data:)", text) and text.count("<script>") == 1
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in clean.rglob("*.jpg")}
    assert before == after  # nothing of the source is changed
    rows = (out / "clean.csv").read_text().splitlines()
    assert len(rows) == 30 and not any("bee/4.jpg" in r for r in rows)
    again = inspect(str(out / "clean.csv"), num_processes=1)
    assert again.worst == "" and set(again.classes("label")) == {"ant", "bee"}


def test_marks_on_the_page_give_a_csv_that_is_converted(clean, tmp_path):
    train, other = clean / "train", clean / "eval"
    (train / "bee" / "cut.jpg").write_bytes(saved(picture(900))[:900])
    for name in ("bee/4.jpg", "bee/5.jpg"):
        (train / "ant" / f'"copy", {name[4:]}').write_bytes((train / name).read_bytes())
    found = inspect(str(train), str(other), num_processes=1)
    (tmp_path / "p.html").write_text(page(found, "x"))
    with open_page(f"file://{tmp_path}/p.html") as (shown, complaints):
        assert "1 that cannot be decoded" in shown.inner_text("#marked")
        names = ("4.jpg", '"copy", 4.jpg', "5.jpg", '"copy", 5.jpg')
        of = {
            name: shown.locator("figure", has=shown.get_by_text(name, exact=True)).first
            for name in names
        }
        of["4.jpg"].locator("[data-mark=keep]").click()
        of['"copy", 4.jpg'].locator("[data-mark=remove]").click()
        of["5.jpg"].locator("[data-mark=remove]").focus()
        shown.keyboard.press("Enter")
        of['"copy", 5.jpg'].locator("[data-mark=relabel]").click()
        of['"copy", 5.jpg'].locator("input").fill("wasp")
        assert "1 kept, 2 removed, 1 relabelled" in shown.inner_text("#marked")
        shown.reload()  # marks stay
        assert "1 kept, 2 removed, 1 relabelled" in shown.inner_text("#marked")
        of["4.jpg"].locator(".frame").press("Enter")
        assert shown.locator("dialog").is_visible() and "4.jpg" in shown.inner_text("dialog")
        shown.keyboard.press("ArrowRight")
        shown.keyboard.press("Escape")
        assert not shown.locator("dialog").is_visible()
        with shown.expect_download() as download:
            shown.click("#download")
        download.value.save_as(tmp_path / "corrected.csv")
        shown.click("#clear")
        assert "Mark images" in shown.inner_text("#marked") and complaints == []
    again = inspect(str(tmp_path / "corrected.csv"), num_processes=1)
    assert again.classes(*again.labels) == {
        "ant": {"train": 15, "eval": 15},
        "bee": {"train": 14, "eval": 15},
        "wasp": {"train": 1, "eval": 0},
    }
    assert again.worst != "error" or {f.kind for f in again.findings} == {"few"}


@pytest.mark.slow
def test_a_csv_with_the_columns_of_the_page_is_converted_and_trained_on(clean, tmp_path):
    found = inspect(str(clean / "train"), str(clean / "eval"), num_processes=1)
    (tmp_path / "p.html").write_text(page(found, "x"))
    with open_page(f"file://{tmp_path}/p.html") as (shown, _):
        with shown.expect_download() as download:
            shown.click("#download")
        download.value.save_as(tmp_path / "corrected.csv")
    source = str(tmp_path / "corrected.csv")
    assert convert_verb.main([source, str(tmp_path / "records")]) == 0
    assert (tmp_path / "records" / "labels.txt").read_text().split() == ["ant", "bee"]
    line = [source, "--model_dir", str(tmp_path / "model"), "--train_steps", "2"]
    line += ["--image_size", "32", "--backbone", "mobilenet_v1_025", "--checkpoint_path", "none"]
    assert train_verb.main(line) == 0
    manifest = ModelFolder(str(tmp_path / "model")).known_manifest()
    assert manifest.num_train_examples == 30
    assert list(manifest.schema["label"].named_classes()) == ["ant", "bee"]


def test_candidates_show_the_image_that_they_look_like(clean, tmp_path):
    images = inspect(str(clean / "train"), num_processes=1)
    finding = Finding(
        "label_errors",
        "warning",
        "x",
        [[0]],
        "label",
        [Suggestion("bee", 0.93, len(images.images) - 1)],
    )
    found = images.with_findings([finding])
    text = page(found, "x")
    assert 'data-suggestion="bee"' in text and "(93%)" in text and "most similar" in text
    [stored] = as_json(found)["findings"]
    assert stored["suggestions"] == [
        {"class_name": "bee", "probability": 0.93, "nearest": images.images[-1].where}
    ]
    (tmp_path / "p.html").write_text(text)
    with open_page(f"file://{tmp_path}/p.html") as (shown, _):
        pressed = shown.locator(".candidate [aria-pressed=true]")
        shown.get_by_role("button", name="Relabel to bee").click()
        assert pressed.all_inner_texts() == ["Relabel to bee"]
        shown.get_by_role("button", name="Other").click()
        assert pressed.all_inner_texts() == ["Other"]
        shown.locator(".candidate input").fill("wasp")
        assert pressed.all_inner_texts() == ["Other"]


def test_suggestions_are_the_nearest_images_of_the_predicted_class(clean):
    """Two classes in two corners of the features, and one image in the wrong one."""
    images = inspect(str(clean / "train"), num_processes=1)
    labels = np.array([image.columns["label"] == "bee" for image in images.images])
    random = np.random.default_rng(0)
    features = np.stack([labels * 10.0, ~labels * 10.0], axis=1) + random.normal(size=[30, 2]) / 9
    wrong = int(np.flatnonzero(labels)[0])
    features[wrong] = features[~labels][3]
    found = {f.kind: f for f in feature_findings(images, features.astype(np.float32))}
    place = list(map(list, found["label_errors"].members)).index([wrong])
    suggestion = found["label_errors"].suggestions[place]
    assert suggestion.class_name == "ant" and suggestion.probability > 0.5
    assert suggestion.nearest == np.flatnonzero(~labels)[3]


def test_images_in_records_get_no_csv_and_the_page_says_why(clean, tmp_path):
    assert convert_verb.main([str(clean / "train"), str(tmp_path / "records")]) == 0
    text = page(inspect(str(tmp_path / "records"), num_processes=1), "x")
    assert "Corrections cannot be downloaded" in text and 'id="corrections"' not in text


def test_thumbnails_stop_at_their_limit(clean, monkeypatch):
    (clean / "train" / "ant" / "c.jpg").write_bytes(
        (clean / "train" / "bee" / "1.jpg").read_bytes()
    )
    found = inspect(str(clean / "train"), num_processes=1)
    assert page(found, "x").count("data:image/jpeg") == 2
    monkeypatch.setattr(page_module, "_MAX_BYTES", 1)
    assert page(found, "x").count("data:image/jpeg") == 1


@pytest.mark.slow
def test_a_page_of_10_000_pictures_stays_under_20_mb(clean):
    found = inspect(str(clean / "train"), num_processes=1)
    many = [dataclasses.replace(found.images[i % 30], key=f"{i}.jpg") for i in range(10_000)]
    kinds_of = ("conflicts", "leak", "duplicates", "label_errors", "small", "aspect", "enlarged")
    groups = [list(range(i, i + 10)) for i in range(0, 10_000, 10)]
    findings = [Finding(kind, "warning", "x", groups) for kind in kinds_of]
    sets = ["train"] * 8_000 + ["eval"] * 2_000
    text = page(Inspection(many, sets, ["label"], findings), "x")
    assert len(text) < 20_000_000 and text.count("data:image/jpeg") > 100


def test_a_csv_of_images_inside_another_file_is_refused_before_the_pass(
    tmp_path, monkeypatch, capsys
):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("1.jpg")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    monkeypatch.setattr(Place, "read", None)
    line = [str(tmp_path / "a.tar"), "--write_csv", str(tmp_path / "c.csv"), "--processes", "1"]
    with pytest.raises(SystemExit):
        inspect_verb.main(line)
    assert re.search(r"--write_csv .*a\.tar: 1\.jpg is not a file", capsys.readouterr().err)


def test_the_verb_ends_with_0_when_there_is_no_error(clean, tmp_path, capsys):
    line = [str(clean / "train"), "--page", str(tmp_path / "p.html"), "--processes", "1"]
    assert inspect_verb.main(line) == 0
    assert "no problems found" in capsys.readouterr().out


def test_pairs_are_those_of_comparing_all_with_all():
    random = np.random.default_rng(0)
    bases = random.integers(0, 2**63, 400, np.uint64)
    flips = np.array([sum(1 << int(b) for b in random.choice(63, 3, False)) for _ in bases])
    hashes = np.concatenate([bases, bases ^ flips.astype(np.uint64), bases[:5]])
    found = duplicates.near_pairs(hashes, None)
    differing = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = np.argwhere(np.triu(differing <= 4, k=1))
    assert {tuple(p) for p in expected} <= {tuple(p) for p in found.tolist()}
    assert (np.bitwise_count(hashes[found[:, 0]] ^ hashes[found[:, 1]]) <= 8).all()


def test_many_alike_hashes_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr(duplicates, "_MAX_CANDIDATES", 1000)
    pairs = duplicates.near_pairs(np.zeros(500, np.uint64), None)
    assert 500 <= len(pairs) <= 1500


def test_an_image_of_raw_pixels_has_statistics(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(range(200)))
    row = Row("raw/0", Place("pixels", str(tmp_path / "raw"), 0, 200, (10, 20)), {})
    stats = measure_image(row)
    assert (stats.width, stats.height) == (20, 10) and stats.brightness == pytest.approx(99.5)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "trashnet").exists(), reason="shared/data is not here")
def test_the_contradictions_of_trashnet_are_found():
    found = inspect(str(DATA / "trashnet" / "dataset-resized"))
    by_kind = kinds(found)
    assert len(by_kind["conflicts"].members) == 3
    assert "3 of them with equal pixels" in by_kind["conflicts"].text
    assert "broken" not in by_kind


@pytest.mark.skipif(not (DATA / "awkward_images").exists(), reason="shared/data is not here")
@pytest.mark.filterwarnings("ignore")
def test_every_awkward_image_is_told_by_its_kind():
    rows = [
        line.split("\t")
        for line in (DATA / "awkward_images" / "TABLE.tsv").read_text().splitlines()[1:]
    ]
    found = inspect(str(DATA / "awkward_images"), num_processes=1)
    problems = {f.key: f.problem for f in found.images}
    refused = {os.path.basename(each.where) for each in found.left_out}
    for file, _, _, what, sane, *_ in rows:
        name = os.path.basename(file)
        if sane.startswith("reject") and what != "PPM":
            assert problems.get(file) or name in refused, (file, what)
        elif sane.startswith("decode;") or sane == "decode":
            assert problems.get(file) == "", (file, problems.get(file))
    traits = {os.path.basename(f.key): f.traits for f in found.images}
    assert "animated" in traits["iss634.gif"] and "animated" in traits["iss634.apng"]
    assert "CMYK" in traits["pil_sample_cmyk.jpg"] and "16 bits" in traits["i_trns.png"]
    assert "turned by EXIF" in traits["hopper_orientation_6.jpg"]
    assert "transparent" in traits["pil123rgba.png"]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mini_mnist").exists(), reason="shared/data is not here")
def test_digits_that_were_encoded_again_are_found_in_the_test_set_of_mnist(monkeypatch):
    """And no others; of the 600, 518 are from its training set, which would take half a minute."""
    monkeypatch.chdir(DATA / "mini_mnist")
    mini = ["dataset/trainset_local.csv", "dataset/evalset_local.csv"]
    from conversion.small_sources import rows_of_source as find_rows

    rows = [row for path in mini for row in find_rows(path)[0]]
    others = [row for row in find_rows(str(DATA / "mnist"))[0] if row.split == "test"]
    images = [measure_image(row) for row in (*rows, *others)]
    hashes = np.array([f.hashes for f in images], np.uint64)
    smalls = np.stack([np.frombuffer(f.small, np.uint8) for f in images])
    pairs = [p for p in duplicates.near_pairs(hashes, smalls).tolist() if p[0] < 600 <= p[1]]
    assert len({a for a, _ in pairs}) == len(pairs) == 82


def test_as_json_and_page_of_nothing(clean):
    found = inspect(str(clean / "train"), num_processes=1)
    assert as_json(found)["findings"] == [] and "No problems found" in page(found, "x")
    assert write_clean_csv(str(clean / "c.csv"), found) == 30
