"""Data sets in the forms in which people keep them; each holds the same few pictures."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from dataset.tiny_sources import PICTURES, write

ANT_BEE = [(0, "ant"), (1, "bee"), (2, "ant"), (3, "bee")]
"""Pictures by number with their classes, as most forms hold them."""


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to keep a data set.

    Attributes:
        write: writes it into an empty folder and returns the pattern to name, below that folder.
        examples: number and class of each picture, in the order of the source.
        label_columns: columns to name as labels, where that is necessary.
    """

    write: Callable[[Path], str]
    examples: list[tuple[int, str]] = dataclasses.field(default_factory=lambda: list(ANT_BEE))
    label_columns: tuple[str, ...] = ()


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def put_images(folder, names):
    for number, name in enumerate(names):
        put(folder, name, PICTURES[number])


def images(*names, root="set"):
    def write_images(folder):
        put_images(folder, names)
        return root

    return write_images


def table(text, *names, table_name="t.csv", root=""):
    """A CSV and the images that it names."""

    def write_table(folder):
        put_images(folder, names or [f"{i}.png" for i in range(4)])
        put(folder, table_name, text)
        return root or table_name

    return write_table


ROWS = "0.png,ant\n1.png,bee\n2.png,ant\n3.png,bee\n"
IDS = "img0,ant\nimg1,bee\nimg2,ant\nimg3,bee\n"


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    values = value if isinstance(value, list) else [value]
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def records(names, features, *, compression="", root="", beside=None):
    """TFRecord files, the examples dealt to them one after the other."""

    def write_files(folder):
        count = 4 // len(names)
        for k, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            serialized = [
                tf.train.Example(
                    features=tf.train.Features(
                        feature={n: feature(v) for n, v in features(i).items()}
                    )
                ).SerializeToString(deterministic=True)
                for i in range(k * count, (k + 1) * count)
            ]
            write(folder / name, serialized, compression)
        for name, text in (beside or {}).items():
            put(folder, name, text)
        return root or names[0]

    return write_files


def number(i):
    return str(i % 2)


def add_to_tar(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def tars(names, members, *, root="", mode="w"):
    """Tar files, the examples dealt to them one after the other."""

    def write_files(folder):
        count = 4 // len(names)
        for k, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(folder / name, mode) as tar:
                for i in range(k * count, (k + 1) * count):
                    for member, data in members(i).items():
                        add_to_tar(tar, member, data)
        return root or names[0]

    return write_files


def web(i):
    return {f"{i:04d}.png": PICTURES[i], f"{i:04d}.cls": number(i).encode()}


def parquet(columns, *, names=("t.parquet",), root="", classes=None):
    def write_files(folder):
        import pyarrow as pa
        import pyarrow.parquet

        count = 4 // len(names)
        for k, name in enumerate(names):
            rows = range(k * count, (k + 1) * count)
            found = pa.table({n: [value(i) for i in rows] for n, value in columns.items()})
            if classes:
                features = {
                    n: {"names": list(c), "_type": "ClassLabel"} for n, c in classes.items()
                }
                stored = json.dumps({"info": {"features": features}})
                found = found.replace_schema_metadata({"huggingface": stored})
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(found, folder / name)
        return root or names[0]

    return write_files


def as_struct(i):
    return {"bytes": PICTURES[i], "path": f"{i}.png"}


def idx(stem, *, ending=".gz", separator="-"):
    def write_files(folder):
        pack = gzip.compress if ending else bytes
        pixels = np.repeat(np.arange(4, dtype=np.uint8), 4).tobytes()
        head = struct.pack(">IIII", 0x803, 4, 2, 2)
        put(folder, f"{stem}images{separator}idx3-ubyte{ending}", pack(head + pixels))
        labels = struct.pack(">II", 0x801, 4) + bytes(i % 2 for i in range(4))
        put(folder, f"{stem}labels{separator}idx1-ubyte{ending}", pack(labels))
        return "."

    return write_files


def cifar(folder):
    for name, chosen in (("data_batch_1.bin", range(4)), ("test_batch.bin", range(4))):
        data = b"".join(bytes([i % 2]) + bytes([i]) * 3072 for i in chosen)
        put(folder, f"cifar-10-batches-bin/{name}", data)
    put(folder, "cifar-10-batches-bin/batches.meta.txt", "ant\nbee\n\n")
    return "cifar-10-batches-bin"


def cifar_100(folder):
    data = b"".join(bytes([7, i % 2]) + bytes([i]) * 3072 for i in range(4))
    put(folder, "train.bin", data)
    put(folder, "fine_label_names.txt", "ant\nbee\n")
    return "."


def cifar_pickles(folder):
    put(folder, "set/data_batch_1", pickle.dumps({b"data": [1]}, protocol=2))
    put(folder, "set/batches.meta", pickle.dumps({b"label_names": []}, protocol=2))
    return "set"


def files_of(names, root):
    """Files that hold nothing of use, under names that mean something."""

    def write_files(folder):
        for name in names:
            if name.endswith((".jpg", ".png")):
                put(folder, name, PICTURES[1])
            else:
                put(folder, name, b"{}" if name.endswith(".json") else b"0 1 2 3 4\n")
        return root

    return write_files


CLASS_NUMBERS = [(i, number(i)) for i in range(4)]
SORTED = [(0, "ant"), (1, "ant"), (2, "bee"), (3, "bee")]
DIVIDED = [(0, "ant"), (1, "bee"), (2, "ant"), (3, "bee")]

FORMS = {
    # Folders
    "class folders": Form(images("set/ant/0.png", "set/ant/1.png", "set/bee/2.png",
                                 "set/bee/3.png"), SORTED),
    "class folders, nested, with one that is empty": Form(
        lambda folder: (images("set/ant/a/0.png", "set/ant/b/1.png", "set/bee/2.png",
                               "set/bee/3.png")(folder),
                        (folder / "set/cow").mkdir())[0], SORTED),
    "train, val and test roots, once read by Ultralytics": Form(
        lambda folder: (put(folder, "set/train.cache", b""), put(folder, "set/val.cache", b""),
                        images("set/train/ant/0.png", "set/train/bee/1.png", "set/val/ant/2.png",
                               "set/test/bee/3.png")(folder))[-1],
        [(3, "bee"), (0, "ant"), (1, "bee"), (2, "ant")]),
    # Tables
    "CSV of the contract": Form(table(f"URIs,labels\n{ROWS}")),
    "CSV without a header": Form(table(ROWS)),
    "CSV with BOM, semicolons and CRLF": Form(
        table(f"\ufefffile;class\r\n{ROWS}".replace(",", ";").replace("\n", "\r\n"))),
    "CSV with spaces around": Form(table("file , label\n" + ROWS.replace(",", " , "))),
    "TSV of pandas": Form(table("\tfilename\tlabel\n" + "".join(
        f"{i}\t{row}\n" for i, row in enumerate(ROWS.replace(",", "\t").splitlines())),
        table_name="t.tsv")),
    "compressed CSV": Form(table(gzip.compress(f"path,label\n{ROWS}".encode()),
                                 table_name="t.csv.gz")),
    "CSV with a column split": Form(table("file,label,split\n0.png,ant,train\n1.png,bee,train\n"
                                          "2.png,ant,val\n3.png,bee,val\n")),
    "list files of parts": Form(
        lambda folder: (table("0.png 0\n1.png 1\n", table_name="train.txt")(folder),
                        put(folder, "val.txt", "2.png 0\n3.png 1\n"),
                        put(folder, "labels.txt", "ant\nbee\n"))[0] and ".",
        CLASS_NUMBERS),
    "several labels": Form(table("file,label,size\n" + "".join(
        f"{row},{i}.5\n" for i, row in enumerate(ROWS.split()))), label_columns=("label",)),
    "multilabel cells": Form(table("file,label\n0.png,ant\n1.png,ant|bee\n2.png,bee\n3.png,\n"),
                             [(0, "ant"), (1, "ant|bee"), (2, "bee"), (3, "")]),
    "columns of 0 and 1": Form(table("file,ant,bee\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,1\n"),
                               [(i, str(1 - i % 2)) for i in range(4)], label_columns=("ant",)),
    "CSV of Google Cloud": Form(table("TRAIN,0.png,ant\nTRAIN,1.png,bee\nVALIDATION,2.png,ant\n"
                                      "TEST,3.png,bee\n")),
    "metadata.csv of Hugging Face": Form(table("file_name,label\n" + ROWS,
                                               *(f"set/{i}.png" for i in range(4)),
                                               table_name="set/metadata.csv")),
    # TFRecords
    "records of the contract": Form(
        records(["train-00000-of-00002.tfrecord.gz", "train-00001-of-00002.tfrecord.gz"],
                lambda i: {"image_bytes": PICTURES[i], "label": float(i % 2)},
                compression="GZIP", root="train-*"), CLASS_NUMBERS),
    "records of TF-Slim": Form(
        records(["train-00000-of-00001"],
                lambda i: {"image/encoded": PICTURES[i], "image/format": b"png",
                           "image/height": 2, "image/class/label": i % 2}, root="."),
        CLASS_NUMBERS),
    "folder of TensorFlow Datasets": Form(
        records(["set-train.tfrecord-00000-of-00001", "set-test.tfrecord-00000-of-00001"],
                lambda i: {"image": PICTURES[i], "label": i % 2}, root=".",
                beside={"dataset_info.json": "{}", "features.json": "{}",
                        "label.labels.txt": "ant\nbee\n"}),
        [(2, "0"), (3, "1"), (0, "0"), (1, "1")]),
    # Tars
    "WebDataset": Form(tars(["set-000.tar"], web), CLASS_NUMBERS),
    "WebDataset, compressed": Form(tars(["set.tar.gz"], web, mode="w:gz"), CLASS_NUMBERS),
    "WebDataset with texts as classes": Form(
        tars(["set.tgz"], lambda i: {f"a/{i}.png": PICTURES[i],
                                     f"a/{i}.json": json.dumps({"label": ANT_BEE[i][1]}).encode()},
             mode="w:gz")),
    "WebDataset, folder of parts": Form(
        tars(["set/train-0.tar", "set/val-0.tar"], web, root="set"), CLASS_NUMBERS),
    # Parquet
    "Parquet of bytes": Form(parquet({"image": lambda i: PICTURES[i],
                                      "label": lambda i: ANT_BEE[i][1]})),
    "Parquet of Hugging Face": Form(
        parquet({"image": as_struct, "label": lambda i: i % 2}, classes={"label": ("ant", "bee")},
                names=("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
                root="data"), [(2, "ant"), (3, "bee"), (0, "ant"), (1, "bee")]),
    "Parquet with two labels": Form(
        parquet({"img": as_struct, "fine_label": lambda i: i % 2, "coarse_label": lambda i: 0},
                classes={"fine_label": ("ant", "bee"), "coarse_label": ("insect", "none")}),
        label_columns=("fine_label",)),
    # Pixels
    "MNIST": Form(idx("train-"), CLASS_NUMBERS),
    "MNIST, unpacked": Form(idx("train-", ending="", separator="."), CLASS_NUMBERS),
    "CIFAR-10": Form(cifar, DIVIDED * 2),
    "CIFAR-100": Form(cifar_100, DIVIDED),
    # Forms whose images have to be searched for, or whose names are unusual
    "table of Kaggle: ids, images in a folder": Form(
        table(f"id,breed\n{IDS}", *(f"train/img{i}.png" for i in range(4)))),
    "table of Kaggle: ids, images beside it": Form(
        table(f"image_id,label\n{IDS}", *(f"img{i}.png" for i in range(4)))),
    "table of Kaggle: names, images in a folder": Form(
        table(f"image_id,label\n{ROWS}", *(f"train_images/{i}.png" for i in range(4)))),
    "records of Kaggle": Form(
        records(["set/train/00-2x2-2.tfrec", "set/val/00-2x2-2.tfrec"],
                lambda i: {"image": PICTURES[i], "class": i % 2, "id": b"%d" % i}, root="set"),
        CLASS_NUMBERS),
    "WebDataset, numbers in braces": Form(
        tars(["set-000.tar", "set-001.tar"], web, root="set-{000..001}.tar"), CLASS_NUMBERS),
    "WebDataset, names in braces": Form(
        tars(["a.tar", "b.tar"], web, root="{a,b}.tar"), CLASS_NUMBERS),
    "EMNIST": Form(idx("emnist-letters-train-"), CLASS_NUMBERS),
    "CSV in UTF-16": Form(table(("file\tlabel\n" + ROWS.replace(",", "\t")).encode("utf-16"))),
}  # fmt: skip
"""Forms by name that can be trained on."""

DETECTION = "boxes or masks.*CSV"

REFUSED = {
    "COCO": (files_of(["set/annotations/train.json", "set/train2017/1.jpg", "set/val2017/2.jpg"],
                      "set"), DETECTION),
    "YOLO": (files_of(["set/images/train/1.jpg", "set/images/val/2.jpg", "set/labels/train/1.txt",
                       "set/labels/val/2.txt"], "set"), DETECTION),
    "YOLO, divided": (files_of(["set/train/images/1.jpg", "set/train/labels/1.txt",
                                "set/valid/images/2.jpg", "set/valid/labels/2.txt"], "set"),
                      DETECTION),
    "Pascal VOC": (files_of(["VOC/JPEGImages/1.jpg", "VOC/Annotations/1.xml",
                             "VOC/ImageSets/Main/train.txt"], "VOC"), DETECTION),
    "segmentation": (files_of(["set/images/1.jpg", "set/masks/1.png"], "set"), DETECTION),
    "images of CUB": (files_of(["set/images/a/1.jpg", "set/images/b/2.jpg", "set/parts/a.txt"],
                               "set"), "all images lie in the folder 'images', none in parts"),
    "one class": (files_of(["set/ant/1.jpg", "set/ant/2.jpg"], "set"), "at least two classes"),
    "no class folders": (files_of(["set/cat.0.jpg", "set/dog.1.jpg"], "set"),
                         "images have no class.*CSV"),
    "nothing": (lambda folder: (folder / "set").mkdir() or "set", "a folder of images for each"),
    "TIFF": (files_of(["set/a/1.tif", "set/b/2.tif"], "set"), "TIFF is not read: convert"),
    "npz": (files_of(["a.npz"], "a.npz"), "as PNG files"),
    "folder of npz": (files_of(["set/a.npz"], "set"), "but a.npz.*as PNG files"),
    "LMDB": (files_of(["set/data.mdb"], "set"), "as PNG files"),
    "Arrow": (files_of(["set/data-00000-of-00001.arrow", "set/state.json"], "set"),
              "Save it as Parquet"),
    "archive in a folder": (files_of(["set/a.zip"], "set"), "Unpack it and name the folder"),
    "JSON lines": (files_of(["a.jsonl"], "a.jsonl"), "Write a CSV"),
    "spreadsheet": (files_of(["a.xlsx"], "a.xlsx"), "Save it as CSV"),
    "pickles of CIFAR": (cifar_pickles, "Download CIFAR's binary version"),
    "an idx file by itself": (
        lambda folder: (idx("train-")(folder), "train-images-idx3-ubyte.gz")[1],
        "one file of IDX data. Name the folder"),
    "a CIFAR file by itself": (
        lambda folder: (cifar(folder), "cifar-10-batches-bin/test_batch.bin")[1],
        "one file of CIFAR data. Name the folder"),
    "CIFAR in a tar": (
        tars(["a.tar"], lambda i: {f"c/data_batch_{i}.bin": b"x"}), "Unpack an archive"),
    "class folders in a tar": (
        tars(["a.tar"], lambda i: {f"{ANT_BEE[i][1]}/{i}.png": PICTURES[i]}),
        "no column for a label.*Unpack an archive"),
    "a repository of Parquet files": (
        parquet({"image": as_struct, "label": lambda i: i % 2},
                names=("set/data/train-00000-of-00001.parquet",), root="set"),
        "only the folder data, .*1 file .*Name .*set/data"),
    "Parquet without labels": (parquet({"image": as_struct}), "no column for a label"),
    "Parquet without images": (parquet({"label": lambda i: i}), "no column of images, only label"),
    "records without labels": (
        records(["a.tfrecord"], lambda i: {"image_bytes": PICTURES[i]}),
        "a feature for each label"),
    "records of something else": (
        lambda folder: write(folder / "a.tfrecord", [b""]) and "a.tfrecord",
        "no image feature .*--image_feature"),
    "a list of images": (table("0.png\n1.png\n"), "no column for a label.*path,label"),
    "CSV of pixels": (table("label,pixel0,pixel1\n0,1,2\n1,3,4\n"), "pixels .* as image files"),
    "CSV of web addresses": (table("url,label\nhttps://x.org/1.jpg,a\n"), "Download the images"),
    "CSV in Latin-1": (table("file,label\n0.png,caf\xe9\n".encode("latin-1")), "Save it as UTF-8"),
    "CSV with one name for two images": (
        table("id,label\n0,ant\n1,bee\n", "x/0.png", "y/0.png"), "2 images have the name '0'"),
}  # fmt: skip
"""By name, a writer of a form that cannot be trained on, and a pattern of the message."""
