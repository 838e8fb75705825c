"""The user's application and this framework as source packages or a folder for ``docker build``.

An application is the folder of the script that the user runs. No network is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence

import tf_image_classification
from tf_image_classification.cloud.source_files import (
    ARGUMENTS,
    SourceFiles,
    secret_argument,
    source_files,
)
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files

TENSORFLOW = {"cpu": "tensorflow-cpu>=2.20,<3", "gpu": "tensorflow[and-cuda]>=2.20,<3"}
"""Requirement by accelerator; the same as the extras of these names."""

MODULE = "tfic_application.run"
"""The module of an application's package that runs it."""

_DOCKERFILE = """\
FROM python:3.11-slim
RUN pip install --no-cache-dir '{tensorflow}'
COPY framework /framework
RUN pip install --no-cache-dir /framework
COPY application /application
WORKDIR /application
RUN if [ -f requirements.txt ]; then pip install --no-cache-dir -r requirements.txt; fi
ENV PYTHONUNBUFFERED=1
CMD {command}
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
    """The command of a job and its files.

    Attributes:
        folder: the local folder of its files.
        program: the command, run in that folder.
        arguments: the arguments of the command.
    """

    folder: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]


def application_of(command: Sequence[str]) -> Application:
    """The application of a local command.

    Args:
        command: ``python script.py ...`` or ``tfic train ...``.

    Raises:
        ConfigError: it is neither, or the script does not exist.
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


def application_files(application: Application, *, allowed: Sequence[str] = ()) -> SourceFiles:
    """The files of an application to upload.

    Args:
        application: the application.
        allowed: as ``source_files``.

    Raises:
        ConfigError: as ``source_files``; or the script itself is left out.
    """
    sources = source_files(application.folder, allowed=allowed)
    script = application.program[1]
    if application.program[0] == "python" and script not in sources.sizes:
        why = sources.left_out.get(script, "not there")
        raise ConfigError(
            f"The script {script} of {sources.folder} would not be sent: it is {why}."
        )
    return sources


def check_arguments(application: Application, *, allowed: Sequence[str] = ()) -> None:
    """Check that the command, which is visible in the job, holds no secret.

    Raises:
        ConfigError: it does.
    """
    secret = secret_argument(application.arguments)
    if secret is not None and ARGUMENTS not in allowed:
        raise ConfigError(
            f"Argument {secret.line} of the command holds {secret.kind}, and whoever sees the job "
            "can read it. Give it to the machines in another way, e.g. by their account or a "
            f"secret of the cluster. If it is not a secret, add --allow_secret {ARGUMENTS}."
        )
    if secret is None and ARGUMENTS in allowed:
        raise ConfigError(
            f"--allow_secret {ARGUMENTS}: no key or token was found in the command. Remove the "
            "option."
        )


def application_package(
    application: Application, sources: SourceFiles, accelerator: str
) -> tuple[str, bytes]:
    """The source package of an application: its file name and content, the same for the same files.

    Args:
        application: the application.
        sources: its files.
        accelerator: "cpu" or "gpu".

    Raises:
        ConfigError: a line of ``requirements.txt`` is not a requirement of a package.
    """
    contents = {f"src/tfic_application/files/{name}": sources.read(name) for name in sources}
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
    """The requirements of a requirements.txt, without comments."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement:
            continue
        # A name, with an address only after an @: neither an option of pip, nor a path.
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
    sources = source_files(os.path.dirname(os.path.abspath(tf_image_classification.__file__)))
    contents = {f"src/tf_image_classification/{name}": sources.read(name) for name in sources}
    required = importlib.metadata.requires("tf_image_classification") or []
    project = _PROJECT.format(
        name="tf_image_classification",
        version=tf_image_classification.__version__,
        dependencies=json.dumps([*filter(None, map(_needed_by_jobs, required))]),
        scripts='\n[project.scripts]\ntfic = "tf_image_classification.cli.main:main"\n',
    )
    return contents | {"pyproject.toml": project.encode()}


def _needed_by_jobs(requirement: str) -> str:
    """A requirement of this framework or its extra ``train``; "" of another extra."""
    if "extra ==" not in requirement:
        return requirement
    text, _, marker = requirement.partition(";")
    return text.strip() if re.fullmatch(r"""\s*extra == ["']train["']\s*""", marker) else ""


def framework_package() -> tuple[str, bytes]:
    """The source package of this framework: its file name and content."""
    version = tf_image_classification.__version__
    return _source_package(framework_files(), version, name="tf_image_classification")


def check_new_folder(folder: str) -> None:
    """Check that a folder for ``docker build`` can be written.

    Raises:
        ConfigError: it is not empty, or is a file.
    """
    if os.path.isdir(folder) and os.listdir(folder):
        raise ConfigError(f"{folder} is not empty. Name a new folder, or remove it.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ConfigError(f"{folder} is a file. Name a new folder.")


def write_docker_context(
    application: Application, sources: SourceFiles, folder: str, accelerator: str
) -> None:
    """Write a folder from which ``docker build`` makes the application's image.

    Args:
        application: the application.
        sources: its files.
        folder: the folder to write; must be new or empty.
        accelerator: "cpu" or "gpu".

    Raises:
        ConfigError: as ``check_new_folder``.
    """
    check_new_folder(folder)
    contents = {f"application/{name}": sources.read(name) for name in sources}
    contents |= {f"framework/{name}": content for name, content in framework_files().items()}
    for name, content in contents.items():
        target = os.path.join(folder, name)
        files.make_folder(os.path.dirname(target))
        files.write_bytes(target, content)
    dockerfile = _DOCKERFILE.format(
        tensorflow=TENSORFLOW[accelerator],
        command=json.dumps([*application.program, *application.arguments]),
    )
    files.write_bytes(os.path.join(folder, "Dockerfile"), dockerfile.encode())


def _source_package(
    contents: Mapping[str, bytes], version: str, name: str = "tfic-application"
) -> tuple[str, bytes]:
    """A reproducible tar.gz: its name and content."""
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
