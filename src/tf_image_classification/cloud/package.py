"""What is sent to a cloud: the user's application and this framework, as packages or an image.

An application is the folder of the script that the user runs. Neither needs the network to be made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence

import tf_image_classification
from tf_image_classification import files
from tf_image_classification.errors import ConfigError

TENSORFLOW = {"cpu": "tensorflow-cpu>=2.20,<3", "gpu": "tensorflow[and-cuda]>=2.20,<3"}
"""What an image needs; the same as the extras of these names."""

MODULE = "tfic_application.run"
"""The module of an application's package that runs it."""

_MOST_BYTES = 100 * 2**20
_LEFT_OUT = ("__pycache__", "venv", "node_modules")
_MODEL = {"run.json", "labels.json"}
_IMAGE = {"Dockerfile", "application", "framework"}

_DOCKERFILE = """\
FROM python:3.11-slim
RUN pip install --no-cache-dir '{tensorflow}'
COPY framework /framework
RUN pip install --no-cache-dir /framework
COPY application /application
WORKDIR /application
RUN if [ -f requirements.txt ]; then pip install --no-cache-dir -r requirements.txt; fi
ENV PYTHONUNBUFFERED=1
CMD {program}
"""

_PROJECT = """\
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
dependencies = {dependencies}
{scripts}
[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
"*" = ["**/*", "*"]
"""

_RUN = """\
import os
import runpy
import sys

PROGRAM = {program!r}

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "files")
os.chdir(folder)
sys.path.insert(0, folder)
if PROGRAM[0] == "python":
    sys.argv[0] = PROGRAM[1]
    runpy.run_path(PROGRAM[1], run_name="__main__")
else:
    from tf_image_classification.cli.main import main

    raise SystemExit(main([*PROGRAM[1:], *sys.argv[1:]]))
"""


@dataclasses.dataclass(frozen=True)
class Application:
    """What the user runs.

    Attributes:
        folder: the local folder that is sent.
        program: the command as it is run in that folder.
        arguments: what follows.
    """

    folder: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]


def application_of(command: Sequence[str]) -> Application:
    """The application that a command runs here.

    Args:
        command: ``python script.py ...`` or ``tfic train ...``.

    Raises:
        ConfigError: it is neither, or there is no such script.
    """
    expected = "Expected python SCRIPT.py with its flags, or tfic train with its flags."
    if not command:
        raise ConfigError(f"Which command shall the job run? Give it after --. {expected}")
    if os.path.basename(command[0]).startswith("python") and len(command) > 1:
        script = command[1]
        if not os.path.isfile(script):
            raise ConfigError(f"There is no script {script!r}. {expected}")
        program = ("python", os.path.basename(script))
        return Application(os.path.dirname(os.path.abspath(script)), program, tuple(command[2:]))
    if os.path.basename(command[0]) == "tfic" and command[1:2] == ["train"]:
        return Application(os.getcwd(), ("tfic", "train"), tuple(command[2:]))
    raise ConfigError(f"The command is {' '.join(command)!r}. {expected}")


def application_files(application: Application) -> dict[str, str]:
    """The files of an application: path in its folder to path here.

    Hidden files, environments, model folders and the folders of images are left out.

    Raises:
        ConfigError: they are too large to be a program, or one of them is a secret.
    """
    found: dict[str, str] = {}
    for folder, names, base_names in os.walk(application.folder):
        held = {*names, *base_names}
        if folder != application.folder and (held >= _MODEL or held >= _IMAGE):
            names.clear()
            continue
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in _LEFT_OUT)
        for name in sorted(base_names):
            path = os.path.join(folder, name)
            is_sent = not name.startswith(".") and not name.endswith(".pyc")
            if is_sent and os.path.isfile(path):  # not a link to nowhere, nor a pipe
                found[os.path.relpath(path, application.folder)] = path
    size = sum(os.path.getsize(path) for path in found.values())
    if size > _MOST_BYTES:
        raise ConfigError(
            f"{application.folder} holds {size / 2**20:.0f} MiB, which would all be sent. Put the "
            "script into a folder of its own, and data into a bucket."
        )
    for path in found.values():
        if _is_secret(path):
            raise ConfigError(
                f"{path} holds a private key or a token, and would be sent. Move it out of "
                f"{application.folder}; the job needs no key, but an account (service_account)."
            )
    return found


def _is_secret(path: str) -> bool:
    if not path.lower().endswith((".json", ".key", ".pem")) or os.path.getsize(path) > 2**16:
        return False
    marks = (b"PRIVATE KEY-----", b'"private_key"', b'"refresh_token"', b'"client_secret"')
    content = _read(path)
    return any(mark in content for mark in marks)


def application_package(application: Application, accelerator: str) -> tuple[str, bytes]:
    """The source package of an application: its file name and content, the same for the same files.

    Args:
        application: the application.
        accelerator: "cpu" or "gpu".

    Raises:
        ConfigError: as ``application_files``, or ``requirements.txt`` holds what no package can
            ask for.
    """
    contents = {
        f"src/tfic_application/files/{name}": _read(path)
        for name, path in application_files(application).items()
    }
    contents["src/tfic_application/__init__.py"] = b""
    contents["src/tfic_application/run.py"] = _RUN.format(program=application.program).encode()
    version = tf_image_classification.__version__
    dependencies = [TENSORFLOW[accelerator], f"tf_image_classification=={version}"]
    required = contents.get("src/tfic_application/files/requirements.txt", b"").decode()
    dependencies += _requirements(required, application.folder)
    digest = hashlib.sha256(b"".join(k.encode() + v for k, v in sorted(contents.items())))
    project = _PROJECT.format(
        name="tfic-application",
        version=f"0.0.{int(digest.hexdigest()[:8], 16)}",
        dependencies=json.dumps(dependencies),
        scripts="",
    )
    return _source_package(contents | {"pyproject.toml": project.encode()}, digest.hexdigest()[:12])


def _requirements(text: str, folder: str) -> list[str]:
    """The requirements of a requirements.txt that a package can have."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement:
            continue
        # A name first, then no address but after an @: neither an option of pip, nor a path.
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*\s*([\[(<>=!~;].*|@.*|)", requirement):
            raise ConfigError(
                f"{os.path.join(folder, 'requirements.txt')}, line {number}: {requirement!r} "
                "cannot be asked for by a package. Write name==version, or make an image with "
                "tfic submit docker, in which pip reads the file."
            )
        found.append(requirement)
    return found


def framework_files() -> dict[str, bytes]:
    """This framework as a project: path to content."""
    root = os.path.dirname(os.path.abspath(tf_image_classification.__file__))
    contents = {}
    for folder, names, base_names in os.walk(root):
        names[:] = [name for name in names if name != "__pycache__"]
        for name in base_names:
            path = os.path.join(folder, name)
            contents[f"src/tf_image_classification/{os.path.relpath(path, root)}"] = _read(path)
    required = importlib.metadata.requires("tf_image_classification") or []
    project = _PROJECT.format(
        name="tf_image_classification",
        version=tf_image_classification.__version__,
        dependencies=json.dumps([text for text in required if "extra ==" not in text]),
        scripts='\n[project.scripts]\ntfic = "tf_image_classification.cli.main:main"\n',
    )
    return contents | {"pyproject.toml": project.encode()}


def framework_package() -> tuple[str, bytes]:
    """The source package of this framework: its file name and content."""
    version = tf_image_classification.__version__
    return _source_package(framework_files(), version, name="tf_image_classification")


def write_docker_context(application: Application, folder: str, accelerator: str) -> None:
    """Write a folder from which ``docker build`` makes the application's image.

    Args:
        application: the application.
        folder: the folder to write; must be new or empty.
        accelerator: "cpu" or "gpu".

    Raises:
        ConfigError: the folder holds something already.
    """
    if os.path.isdir(folder) and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty. Name a new folder, or remove it.")
    for name, path in application_files(application).items():
        target = os.path.join(folder, "application", name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
    for name, content in framework_files().items():
        target = os.path.join(folder, "framework", name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        files.write_bytes(target, content)
    dockerfile = _DOCKERFILE.format(
        tensorflow=TENSORFLOW[accelerator], program=json.dumps(application.program)
    )
    files.write_bytes(os.path.join(folder, "Dockerfile"), dockerfile.encode())


def _source_package(
    contents: Mapping[str, bytes], version: str, name: str = "tfic-application"
) -> tuple[str, bytes]:
    """A tar.gz with the same bytes for the same content."""
    base = f"{name}-{version}"
    buffer = io.BytesIO()
    described = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n".encode()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for path, content in sorted({**contents, "PKG-INFO": described}.items()):
            entry = tarfile.TarInfo(f"{base}/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    data = bytearray(buffer.getvalue())
    data[4:8] = bytes(4)  # the time in the header of gzip
    return f"{base}.tar.gz", bytes(data)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
