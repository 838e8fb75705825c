"""The client of a served model: batches, busy servers, and errors that name the cure."""

import contextlib
import http.server
import json
import threading

import pytest

from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.serving import client
from tf_image_classification.serving.client import ModelServer, is_server

LABELS = {"pet": ["cat", "dog"]}


@contextlib.contextmanager
def answering(reply):
    """A server that answers by a function of path and body: status and value."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            self.reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def reply(self, body):
            status, value = reply(self.path, body, self.headers)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pets(path, body, headers):
    if path == "/v1/models":
        return 200, {"models": ["pets"]}
    if path == "/v1/models/pets/metadata":
        return 200, {"metadata": {"labels": LABELS}}
    if path == "/v1/models/pets:predict":
        return 200, {"predictions": [{"pet_probabilities": [0.1, 0.9]} for _ in body["instances"]]}
    return 404, {"error": "Not Found"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(client, "_WAIT_SECS", 0.0)


@pytest.mark.parametrize(
    "end", ["", "/", "/v1/models", "/v1/models/pets", "/v1/models/pets:predict", "/v2"]
)
def test_a_server_is_found_by_any_of_its_addresses(end):
    with answering(pets) as url:
        server = ModelServer(url + end)
        assert server.classes == {"pet": ("cat", "dog")}
        found = list(server.predict([b"image"] * 40))
    assert len(found) == 40 and found[0] == {"pet_probabilities": [0.1, 0.9]}


def test_busy_servers_are_asked_again_and_large_requests_divided():
    sizes, refusals = [], [503, 429]

    def reply(path, body, headers):
        if body is None:
            return pets(path, body, headers)
        if refusals:
            return refusals.pop(), {"error": "busy"}
        sizes.append(len(body["instances"]))
        if len(body["instances"]) > 4:
            return 413, {"error": "too large"}
        return pets(path, body, headers)

    with answering(reply) as url:
        assert len(list(ModelServer(url).predict([b"image"] * 20))) == 20
    assert not refusals and max(sizes) == 16 and sizes.count(4) == 5


def test_errors_name_what_to_do():
    with (
        answering(pets) as url,
        pytest.raises(ConfigError, match="no model 'pats'. Did you mean pets"),
    ):
        _ = ModelServer(f"{url}/v1/models/pats").classes
    with pytest.raises(DataError, match="cannot be reached"):
        _ = ModelServer(url).classes
    with (
        answering(lambda path, body, headers: (200, {"models": ["a", "b"]})) as url,
        pytest.raises(ConfigError, match=r"serves 2 models \(a, b\)"),
    ):
        _ = ModelServer(url).classes
    with (
        answering(lambda path, body, headers: (404, b"nothing")) as url,
        pytest.raises(DataError, match="HTTP 404"),
    ):
        _ = ModelServer(f"{url}/v1/models/pets").classes
    with (
        answering(lambda path, body, headers: (200, b"<html>")) as url,
        pytest.raises(DataError, match="not JSON"),
    ):
        _ = ModelServer(url).classes
    with (
        answering(lambda path, body, headers: (200, {"metadata": {}, "models": ["a"]})) as url,
        pytest.raises(DataError, match="does not name its classes"),
    ):
        _ = ModelServer(url).classes

    def guarded(path, body, headers):
        if headers.get("Authorization") != "Bearer key":
            return 401, {"error": "The token is missing."}
        return pets(path, body, headers)

    with answering(guarded) as url, pytest.raises(ConfigError, match="--token_file"):
        _ = ModelServer(url).classes
        assert ModelServer(url, token="key").classes

    def short(path, body, headers):
        return pets(path, body, headers) if body is None else (200, {"predictions": []})

    with answering(short) as url, pytest.raises(DataError, match="no predictions for 2 images"):
        list(ModelServer(url).predict([b"a", b"b"]))


def test_what_looks_like_a_server_without_a_scheme_is_named():
    assert is_server("http://localhost:8080") and is_server("https://pets.example.org/v1")
    for path in ("runs/pets", "model.tflite", "C:/models/pets", "a.csv", "localhost"):
        assert not is_server(path)
    for text in ("localhost:8080", "127.0.0.1:80", "example.org:8080/v1/models/pets"):
        with pytest.raises(ConfigError, match=f"Write http://{text}"):
            is_server(text)
