"""The server: answers of the model, errors for everything else, nothing lost."""

import asyncio
import base64
import contextlib
import gzip
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import zlib
from concurrent import futures

import httpx
import jsonschema
import numpy as np
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from browser import accessibility_violations, open_page
from serving.running_server import serving
from tf_image_classification.cli import serve as serve_verb
from tf_image_classification.serving import predictor, requests, server
from tf_image_classification.serving.batcher import (
    Batcher,
    Limits,
    QueueFullError,
    StoppedError,
)
from tf_image_classification.serving.connections import ConnectionLimits, limited_protocol
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.workflows import serve as serve_workflow
from tiny_runs import free_ports

AT = "/v1/models/tiny"


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def model(shipped_run):
    return load_model(shipped_run.model_dir)


@pytest.fixture(scope="module")
def client(model):
    with serving(model) as found:
        yield found


def test_rows_and_columns_give_what_the_model_says(client, model, shipped_run):
    images = shipped_run.images[:3]
    said = [one.labels["kind"] for one in model.predict(images)]
    rows = {"instances": [b64(images[0]), {"image_bytes": b64(images[1])}, b64(images[2])]}
    found = client.post(f"{AT}:predict", json=rows)
    assert found.status_code == 200, found.text
    predictions = found.json()["predictions"]
    assert [one["kind_class_name"] for one in predictions] == [one.name for one in said]
    np.testing.assert_allclose(
        [one["kind_calibrated"] for one in predictions],
        [one.probabilities for one in said],
        atol=1e-6,
    )
    columns = {"inputs": {"image_bytes": [b64(data) for data in images]}}
    outputs = client.post(f"{AT}/versions/{model.step}:predict", json=columns).json()["outputs"]
    np.testing.assert_allclose(
        outputs["kind_probabilities"], [one["kind_probabilities"] for one in predictions], atol=1e-6
    )


def test_state_metadata_health_and_counts(client, model):
    state = client.get(AT).json()["model_version_status"][0]
    assert (state["state"], state["version"]) == ("AVAILABLE", str(model.step))
    metadata = client.get(f"{AT}/metadata").json()["metadata"]
    assert metadata["labels"] == {"kind": ["cat", "dog", "emu"]}
    assert client.get("/health").json() == {"status": "ok"}
    assert 'tfic_requests_total{status="200"}' in client.get("/metrics").text


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/health", "/metrics", "/openapi.json", AT, f"{AT}/metadata"]
)
def test_head_gives_the_headers_of_get(client, path):
    found, expected = client.head(path), client.get(path)
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-type"] == expected.headers["content-type"]


def test_every_answer_is_as_the_description_says(model, shipped_run):
    """Each address and method of the OpenAPI description, asked rightly and wrongly."""
    with serving(model, token="s3cret", predict_route="/say", health_route="/alive") as client:
        right = {"Authorization": "Bearer s3cret"}
        described = client.get("/openapi.json", headers=right).json()
        version = str(model.step)
        assert set(described["paths"]) == {
            *(f"{AT}{which}{end}" for which in ("", "/versions/{version}", "/labels/{label}")
              for end in ("", "/metadata", ":predict", ":classify")),
            *(f"/v2/models/tiny{which}{end}" for which in ("", "/versions/{version}")
              for end in ("", "/ready", "/infer")),
            "/v1/models", "/v2", "/v2/health/live", "/v2/health/ready", "/ping", "/invocations",
            "/say", "/alive", "/health", "/metrics", "/monitoring/prometheus/metrics",
        }  # fmt: skip
        free = {"/alive", "/health", "/ping", "/v2/health/live", "/v2/health/ready"}
        image = b64(shipped_run.images[0])
        bodies = [{"instances": [image]}, {"instances": [image, {"image_bytes": b64(b"")}]}]
        bodies += [{"inputs": {"image_bytes": [image]}}, {"instances": 3}, [], None]
        bodies += [{"instances": [{"b64": ""}] * 129}]
        bodies += [{"examples": [{"image_bytes": image}]}]
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [image["b64"]]}
        bodies += [{"inputs": [tensor], "outputs": [{"name": "kind_class_name"}], "id": "1"}]
        seen = set()
        for path, methods in described["paths"].items():
            address = path.format(version=version, label="stable")
            for method, operation in methods.items():
                for headers in (right, {}):
                    for body in bodies if method == "post" else [None]:
                        found = client.request(method, address, json=body, headers=headers)
                        stated = operation["responses"][str(found.status_code)]["content"]
                        [(kind, content)] = stated.items()
                        assert found.headers["content-type"].startswith(kind)
                        if kind == "application/json":
                            jsonschema.validate(found.json(), content["schema"])
                        seen.add((path, method, found.status_code))
                        is_of_the_form = method != "post" or jsonschema.Draft202012Validator(
                            operation["requestBody"]["content"]["application/json"]["schema"]
                        ).is_valid(body)
                        assert is_of_the_form or found.status_code in (400, 401, 413)
                assert bool(operation.get("security")) == (path not in free)
                if "{version}" in path:
                    other = client.request(method, path.format(version="9"), headers=right)
                    assert other.status_code == 404
        for path, methods in described["paths"].items():
            statuses = (200, 400, 401) if "post" in methods else (200, 401)
            wanted = {200} if path in free else {*statuses}
            assert {s for p, _, s in seen if p == path} - {413} == wanted, path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/models/other", 404), ("POST", "/v1/models/x:predict", 404), ("GET", "", 405)],
)
def test_what_is_not_there_is_answered_like_every_error(client, method, path, status):
    found = client.request(method, path or f"{AT}:predict")
    assert found.status_code == status and list(found.json()) == ["error"]
    assert ("allow" in found.headers) == (status == 405)


def huge_png(side):
    """A PNG that says it is huge; a few bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"instances": []}', "list of images"),
        (b'{"instances": [{"b64": "cats/1.jpg"}]}', "instances[0] is not base64: '.' at char"),
        (b'{"inputs": {"image_bytes": [{"b64": "aGFs bG8"}]}}', "inputs.image_bytes[0] is not"),
        (b'{"instances": [{"b64": "aGFsb"}]}', "at least one is missing"),
        (b'{"instances": [{"b64": "aG=sbG8="}]}', "'=' at character 3"),
        (b'{"instances": [3]}', "of the form"),
        (b'{"instances": [1], "inputs": [1]}', "Expected"),
        (b'{"instances": [{"b64": "aGFsbG8="}]}', "instances[0]: not an image"),
        (b'{"inputs": {"image_bytes": [{"b64": "aGFsbG8="}]}}', "inputs.image_bytes[0]: not an"),
        (b'{"instances": [{"b64": ""}], "signature_name": "x"}', "one signature"),
    ],
)
def test_what_is_no_request_is_refused(client, body, text):
    found = client.post(f"{AT}:predict", content=body)
    assert found.status_code == 400 and text in found.json()["error"]


def test_base64_is_read_in_every_form_that_programs_write(client, shipped_run):
    data = next(d for d in shipped_run.images if {"+", "/"} <= set(b64(d)["b64"]))
    expected = client.post(f"{AT}:predict", json={"instances": [b64(data)]}).json()
    plain = b64(data)["b64"]
    forms = {
        "line breaks": base64.encodebytes(data).decode(),
        "line breaks of Windows": base64.encodebytes(data).decode().replace("\n", "\r\n"),
        "indented lines": "\n    " + base64.encodebytes(data).decode().replace("\n", "\n    "),
        "URL-safe": base64.urlsafe_b64encode(data).decode(),
        "without padding": plain.rstrip("="),
        "a data URI": f"data:image/png;base64,{plain}",
        "all of it": "data:image/png;base64,\n"
        + base64.encodebytes(data).decode().translate(str.maketrans("+/", "-_")).rstrip("=\n"),
    }
    for name, text in forms.items():
        found = client.post(f"{AT}:predict", json={"instances": [{"b64": text}]})
        assert found.json() == expected, name


@given(st.binary(max_size=60), st.integers(1, 30), st.booleans(), st.booleans())
def test_base64_of_any_bytes_comes_back(data, width, is_url_safe, is_padded):
    encode = base64.urlsafe_b64encode if is_url_safe else base64.b64encode
    text = encode(data).decode()
    text = text if is_padded else text.rstrip("=")
    text = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    assert requests.base64_bytes(text) == data


def test_a_compressed_body_is_told_to_be_one(client):
    headers = {"Content-Encoding": "gzip"}
    found = client.post(f"{AT}:predict", content=gzip.compress(b"{}"), headers=headers)
    assert found.status_code == 415 and "gzip" in found.json()["error"]


def test_images_of_too_many_pixels_together_are_refused(model, shipped_run):
    many = {"instances": [b64(shipped_run.images[0])] * 5}  # of 64 pixels each
    with serving(model, max_request_pixels=5 * 64) as client:
        assert client.post(f"{AT}:predict", json=many).status_code == 200
    with serving(model, max_request_pixels=5 * 64 - 1) as client:
        found = client.post(f"{AT}:predict", json=many)
        assert found.status_code == 413 and "320 pixels together" in found.json()["error"]
        assert client.post("/explain", content=shipped_run.images[0]).status_code == 200


def test_a_request_of_many_large_images_does_not_hold_up_a_small_one(model, shipped_run):
    """Large images that never finish decoding leave a thread for others, and their turn."""
    release = threading.Event()
    large = huge_png(3000)

    class Slow:
        """The model, whose large images are ready only when the test says so."""

        def __getattr__(self, name):
            return getattr(model, name)

        def prepare(self, image):
            if isinstance(image, bytes) and image == large:
                release.wait(60)
                image = shipped_run.images[0]
            return model.prepare(image)

    small = {"instances": [b64(shipped_run.images[0])]}
    with (
        serving(Slow(), max_request_pixels=10**9) as client,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        many = {"instances": [b64(large)] * 60}
        asked = pool.submit(client.post, f"{AT}:predict", json=many)
        while "tfic_waiting_images 60.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=client.base_url, timeout=20) as other:
                assert other.post(f"{AT}:predict", json=small).status_code == 200
                assert other.post("/explain", content=shipped_run.images[0]).status_code == 200
        finally:
            release.set()
        assert len(asked.result().json()["predictions"]) == 60


def test_images_of_too_many_pixels_are_refused_unread(client):
    found = client.post(f"{AT}:predict", json={"instances": [b64(huge_png(20_000))]})
    assert found.status_code == 400 and "20000" in found.json()["error"]


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "image_bytes", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def bodies(schema):
    """Values of the form that a JSON schema describes; sometimes with what it does not."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "oneOf" in schema:
        return st.one_of([bodies(one) for one in schema["oneOf"]])
    if schema["type"] == "string":
        return st.text(max_size=20) | st.binary(max_size=20).map(lambda b: b64(b)["b64"])
    if schema["type"] == "array":
        return st.lists(bodies(schema["items"]), max_size=4)
    of_name = {name: bodies(inner) for name, inner in schema["properties"].items()}
    required = {name: of_name.pop(name) for name in schema["required"]}
    return st.fixed_dictionaries(required, optional={"other": JSON, **of_name})


def test_bodies_of_the_described_form_without_images_are_refused(client, model):
    """Bodies made from the server's own description: right in form, but never an image."""
    described = client.get("/openapi.json").json()["paths"][f"{AT}:predict"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies(schema))
    def ask(body):
        found = client.post(f"{AT}:predict", json=body)
        assert found.status_code in (400, 413), found.text
        assert found.json()["error"]

    ask()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_refused_requests_leave_no_memory_behind(client, shipped_run):
    huge = {"instances": [b64(huge_png(20_000))] * 8}
    bad = {"instances": [b64(b"no image" * 10_000)] * 8}
    good = {"instances": [b64(shipped_run.images[0])]}
    for _ in range(5):  # what is kept for ever is kept then
        for body in (huge, bad, good):
            client.post(f"{AT}:predict", json=body)
    before = resident_bytes()
    for _ in range(40):
        for body in (huge, bad, good):
            client.post(f"{AT}:predict", json=body)
    assert resident_bytes() - before < 60e6  # 320 images of 20,000 x 20,000 would be 384 GB


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from(["instances", "inputs"]), value=JSON, raw=st.binary(max_size=40))
def test_malformed_bodies_get_an_error_and_the_server_lives(client, key, value, raw):
    for body in ({"json": {key: value}}, {"content": raw}):
        assert client.post(f"{AT}:predict", **body).status_code in (400, 413)
    assert client.post("/explain", content=raw).status_code == 400
    assert client.get("/health").status_code == 200


def test_too_long_bodies_are_refused(model, shipped_run):
    with serving(model, max_body_bytes=1000) as client:
        assert client.post(f"{AT}:predict", content=b"x" * 2000).status_code == 413
        in_parts = client.post(f"{AT}:predict", content=(b"x" * 600 for _ in range(4)))
        assert in_parts.status_code == 413
        many = {"instances": [{"b64": ""}] * 200}
        assert client.post(f"{AT}:predict", json=many).status_code == 413


def test_a_slow_client_is_told_and_others_are_served(model):
    with serving(model, timeout_secs=0.5) as client:
        url = client.base_url
        slow = socket.create_connection((url.host, url.port))
        slow.sendall(
            f"POST {AT}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode()
        )
        assert client.get("/health").status_code == 200
        slow.settimeout(10)
        assert b" 504 " in slow.recv(4096)
        slow.close()


def test_a_client_that_is_slow_with_its_headers_is_disconnected_with_408(model):
    limits = ConnectionLimits(header_secs=0.3)
    with serving(model, connections=limits) as client:
        where = client.base_url.host, client.base_url.port
        silent, slow = (socket.create_connection(where, timeout=20) for _ in range(2))
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-a: ")
        for each in (silent, slow):
            answer = b""
            while part := each.recv(4096):
                answer += part
            assert answer.startswith(b"HTTP/1.1 408 ") and b'{"error"' in answer
            each.close()
        assert client.get("/health").status_code == 200


def test_connections_beyond_the_limit_are_refused_and_those_within_served(model):
    with serving(model, connections=ConnectionLimits(max_connections=2)) as client:
        assert client.get("/health").status_code == 200  # one that is kept open
        where = client.base_url.host, client.base_url.port
        with socket.create_connection(where, timeout=20) as second:
            with socket.create_connection(where, timeout=20) as third:
                third.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert third.recv(4096).startswith(b"HTTP/1.1 503 ")
            assert client.get("/health").status_code == 200
            second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert second.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_its_answer_is_disconnected():
    size = 50_000_000

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def scene():
        protocol = limited_protocol(ConnectionLimits(answer_secs=0.2))
        [port] = free_ports(1)
        config = uvicorn.Config(app, port=port, http=protocol, lifespan="off", log_level="error")
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve())
        while not running.started:
            await asyncio.sleep(0.02)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not running.server_state.connections:
                await asyncio.sleep(0.02)
            while running.server_state.connections:  # until it is disconnected
                await asyncio.sleep(0.02)
            found = 0
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(2**20):
                    found += len(part)
            assert found < size
        running.should_exit = True
        await task

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_token_is_asked_for(model, shipped_run):
    with serving(model, token="s3cret", health_route="/alive", predict_route="/say") as client:
        body = {"instances": [b64(shipped_run.images[0])]}
        assert client.post(f"{AT}:predict", json=body).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/say", json=body, headers=right).status_code == 200
        refused = client.post("/say", json=body, headers={"Authorization": "Bearer s"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "is wrong" in refused.json()["error"]
        assert client.get("/alive").status_code == client.get("/").status_code == 200
        for path in ("/metrics", AT, f"{AT}/metadata", "/openapi.json", "/nowhere"):
            assert client.get(path).status_code == client.head(path).status_code == 401
        assert client.post("/explain", content=shipped_run.images[0]).status_code == 401


def test_predictions_at_the_address_of_the_page_need_the_token_all_the_same(model, shipped_run):
    with serving(model, token="s3cret", predict_route="/") as client:
        body = {"instances": [b64(shipped_run.images[0])]}
        assert client.post("/", json=body).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/", json=body, headers=right).status_code == 200
        assert client.get("/").headers["content-type"].startswith("text/html")


def test_requests_at_the_same_time_go_together(model, shipped_run):
    body = {"instances": [b64(shipped_run.images[0])]}
    with serving(model, limits=Limits(max_batch_size=16, max_wait_ms=20)) as client:
        url = str(client.base_url)

        async def ask():
            async with httpx.AsyncClient(base_url=url, timeout=30) as several:
                calls = [several.post(f"{AT}:predict", json=body) for _ in range(48)]
                return await asyncio.gather(*calls)

        found = asyncio.run(ask())
        assert {one.status_code for one in found} == {200}
        answers = {str(one.json()) for one in found}
        text = client.get("/metrics").text
    calls = float(text.split("tfic_batch_size_count ")[1].split()[0])
    images = float(text.split("tfic_batch_size_sum ")[1].split()[0])
    assert images == 48 and calls <= 24
    assert len({answer.split("kind_class_name")[1] for answer in answers}) == 1


def test_a_full_queue_refuses_with_503(model, shipped_run):
    body = {"instances": [b64(shipped_run.images[0])] * 3}
    with serving(model, limits=Limits(max_queue=2)) as client:
        found = client.post(f"{AT}:predict", json=body)
        assert found.status_code == 503 and found.headers["retry-after"]


def test_the_batcher_hands_errors_to_those_who_asked():
    def answers(images):
        if "bad" in images:
            raise ValueError("bad")
        return [{"said": image} for image in images]

    async def scene():
        batcher = Batcher(answers, Limits(max_batch_size=1, max_queue=1))
        batcher.start()
        assert await batcher.answer("a") == {"said": "a"}
        with pytest.raises(ValueError, match="bad"):
            await batcher.answer("bad")
        assert await batcher.answer("b") == {"said": "b"}
        waiting = [asyncio.ensure_future(batcher.answer("c")) for _ in range(1)]
        await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        await batcher.stop()
        stopped = Batcher(answers, Limits(max_queue=0))
        with pytest.raises(QueueFullError):
            await stopped.answer("d")

    asyncio.run(scene())


@pytest.mark.parametrize("how", [{"max_batch_size": 2}, {"max_wait_ms": 50}])
def test_a_batcher_that_stops_answers_the_call_under_way_and_all_that_wait(how):
    release = threading.Event()

    def answers(images):
        release.wait(30)
        return [{"said": image} for image in images]

    async def scene():
        batcher = Batcher(answers, Limits(**how))
        batcher.start()
        asked = [asyncio.ensure_future(batcher.answer(number)) for number in range(7)]
        while batcher.num_waiting in (0, 7):  # until all are there and a call has taken some
            await asyncio.sleep(0)
        stopping = [asyncio.ensure_future(batcher.stop()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(StoppedError):
            await batcher.answer("late")
        release.set()
        await asyncio.gather(*stopping)
        assert [one.result() for one in asked] == [{"said": number} for number in range(7)]

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_two_calls_run_at_the_same_time_and_what_arrives_then_shares_the_next():
    both, release, sizes = threading.Barrier(3), threading.Event(), []

    def answers(images):
        if len(sizes) <= 2:
            both.wait(30)
            release.wait(30)
        return [{"said": image} for image in images]

    async def scene():
        batcher = Batcher(answers, Limits(), sizes.append, num_calls=2)
        batcher.start()
        asked = []
        for number in range(2):
            asked.append(asyncio.ensure_future(batcher.answer(number)))
            while len(sizes) <= number:
                await asyncio.sleep(0)
        await asyncio.to_thread(both.wait, 30)  # both calls have begun
        asked += [asyncio.ensure_future(batcher.answer(number)) for number in range(2, 7)]
        await asyncio.sleep(0.05)
        assert sizes == [1, 1] and batcher.num_waiting == 5
        stopping = asyncio.ensure_future(batcher.stop())
        release.set()
        await stopping
        assert sizes == [1, 1, 5]
        assert [one.result() for one in asked] == [{"said": number} for number in range(7)]

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_batcher_that_was_never_started_answers_what_it_accepted_when_it_stops():
    async def scene():
        batcher = Batcher(lambda images: [{"said": image} for image in images], Limits())
        asked = asyncio.ensure_future(batcher.answer("a"))
        await asyncio.sleep(0)
        await batcher.stop()
        assert asked.result() == {"said": "a"}

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_call_with_too_few_answers_is_an_error_and_the_next_call_works():
    def answers(images):
        return [] if "bad" in images else [{"said": image} for image in images]

    async def scene():
        batcher = Batcher(answers, Limits())
        batcher.start()
        with pytest.raises(ValueError, match="zip"):
            await batcher.answer("bad")
        assert await batcher.answer("a") == {"said": "a"}
        await batcher.stop()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_vertex_tells_routes_and_port():
    told = {"AIP_HTTP_PORT": "8080", "AIP_HEALTH_ROUTE": "/h", "AIP_PREDICT_ROUTE": "/p", "X": "1"}
    assert server.environment_options(told) == {
        "port": "8080", "health_route": "/h", "predict_route": "/p",
    }  # fmt: skip


@pytest.mark.slow
def test_a_server_that_is_told_to_stop_answers_what_is_under_way(shipped_run):
    [port] = free_ports(1)
    program = [sys.executable, "-m", "tf_image_classification.cli.main", "serve"]
    options = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/alive",
        "AIP_PREDICT_ROUTE": "/say",
    }
    process = subprocess.Popen(
        [*program, shipped_run.model_dir, "--host", "127.0.0.1", "--max_wait_ms", "300"],
        env=os.environ | options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/alive").status_code == 200:
                    break
            time.sleep(0.1)
        body = {"instances": [b64(shipped_run.images[0])]}

        async def ask_and_stop():
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                calls = [asyncio.ensure_future(client.post("/say", json=body)) for _ in range(8)]
                await asyncio.sleep(0.15)  # they are there, and wait for one another
                process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*calls)

        assert {one.status_code for one in asyncio.run(ask_and_stop())} == {200}
        assert process.wait(30) == 128 + signal.SIGTERM
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/alive")
    finally:
        process.kill()
        process.wait()


def test_the_page_shows_the_model_and_the_predictions_of_several_images(
    client, shipped_run, tmp_path
):
    pictures = [tmp_path / name for name in ("a.png", "b.png", "no.png")]
    for picture, data in zip(pictures, [*shipped_run.images[:2], b"no image"], strict=True):
        picture.write_bytes(data)
    with open_page(str(client.base_url)) as (page, complaints):
        page.wait_for_selector("#facts dd")
        facts = dict(
            zip(
                page.locator("#facts dt").all_inner_texts(),
                page.locator("#facts dd").all_inner_texts(),
                strict=True,
            )
        )
        assert facts["network"] == "TinyMaps" and facts["image size"] == "8 x 8 pixels"
        assert page.locator("#classes li").all_inner_texts() == ["cat", "dog", "emu"]
        curl, python = page.locator("#code pre").all_inner_texts()
        assert f"{client.base_url}{AT}:predict" in curl.replace(":80/", "/") and AT in python
        page.set_input_files("#file", [str(picture) for picture in pictures])
        page.wait_for_selector("#list .card:nth-child(2) h3")
        cards = page.locator("#list .card")
        assert cards.first.locator("h3").inner_text() in ("cat", "dog", "emu")
        assert cards.first.locator("tr").count() == 3
        page.wait_for_selector("#error:not(:empty)")
        assert "cannot be used" in cards.last.inner_text()
        assert page.locator(".heat:visible").count() == 0
        page.check("#show")
        assert page.locator(".heat:visible").count() == 2
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#remove")
        assert cards.count() == 0
        assert [c for c in complaints if "400" not in c] == []


@pytest.mark.slow
def test_the_request_in_python_that_the_page_shows_works(client, shipped_run, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(shipped_run.images[0])
    with open_page(str(client.base_url)) as (page, _):
        page.wait_for_selector("#code pre")
        code = page.locator("#code pre").nth(1).inner_text()
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "kind" in printed


@pytest.mark.slow
def test_the_page_asks_for_the_token_and_then_works(model, shipped_run, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(shipped_run.images[0])
    with (
        serving(model, token="s3cret") as client,
        open_page(str(client.base_url)) as (page, complaints),
    ):
        page.wait_for_selector("#login:not([hidden])")
        assert "tiny" not in page.content()
        page.set_input_files("#file", str(picture))
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        page.wait_for_selector("#error:not(:empty)")
        assert page.inner_text("#error") == "The server does not accept this token."
        page.fill("#token", "s3cret")
        page.click("#login button")
        page.wait_for_selector("#list h3")
        page.wait_for_selector("#facts dd")
        assert page.inner_text("#error") == "" and not page.is_visible("#login")
        page.goto(f"{client.base_url}/docs")  # the token is kept in this tab
        page.wait_for_selector("#operations details")
        page.goto(str(client.base_url))
        page.set_input_files("#file", str(picture))
        page.wait_for_selector("#list h3")
        assert [c for c in complaints if "401" not in c] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dark", "width"), [(False, 1280), (True, 1280), (False, 390), (True, 390)]
)
def test_the_pages_of_the_server_are_accessible(client, shipped_run, tmp_path, dark, width):
    picture = tmp_path / "picture.png"
    picture.write_bytes(shipped_run.images[0])
    with open_page(str(client.base_url), dark=dark, width=width) as (page, complaints):
        page.set_input_files("#file", str(picture))
        page.wait_for_selector("#list h3")
        assert accessibility_violations(page) == []
        page.goto(f"{client.base_url}/docs")
        page.wait_for_selector("#operations details")
        described = client.get("/openapi.json").json()["paths"]
        assert page.locator(".operation").count() == sum(map(len, described.values()))
        page.locator(".operation > summary").first.press("Enter")
        body, *_ = page.locator(".operation[open] pre").all_inner_texts()
        assert '{"instances":[{"b64":"…"}]}' in body
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert accessibility_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []


# --- the verb ----------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What the verb would serve: options, host and port."""
    found = []
    model = types.SimpleNamespace(step=1, engine=types.SimpleNamespace(name="litert"))
    monkeypatch.setattr(serve_workflow, "folder_state", lambda path: "")
    monkeypatch.setattr(predictor, "load_model", lambda path, **_: model)
    monkeypatch.setattr(server, "serve", lambda models, *how: found.extend(how[:3]))
    return found


def test_a_port_that_is_given_goes_before_that_of_the_environment(started, monkeypatch):
    monkeypatch.setenv("AIP_HTTP_PORT", "8080")
    [port] = free_ports(1)
    assert serve_verb.main(["models/pets", "--port", str(port)]) == 0
    assert started[1:] == ["127.0.0.1", port]
    monkeypatch.setenv("AIP_HTTP_PORT", str(port))
    assert serve_verb.main(["models/pets"]) == 0
    assert started[4:] == ["0.0.0.0", port]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "99999"), "--port is 99999, expected a whole number from 0 to 65535"),
        (("--port", "-1"), "--port is -1, expected a whole number"),
        (("--max_body_mb", "nan"), "--max_body_mb is nan, expected a finite number"),
        (("--timeout_secs", "inf"), "--timeout_secs is inf"),
        (("--max_wait_ms", "-1"), "--max_wait_ms is -1.0, expected a number of at least 0"),
        (
            ("--max_image_pixels", "0"),
            "--max_image_pixels is 0, expected a whole number of at least 1",
        ),
        (("--max_batch_size", "0"), "--max_batch_size is 0"),
        (("--token_file", "no/such"), "--token_file no/such cannot be read"),
        (("--header_timeout_secs", "0"), "--header_timeout_secs is 0.0, expected a number above 0"),
        (
            ("--max_connections", "0"),
            "--max_connections is 0, expected a whole number of at least 1",
        ),
        (("--max_request_pixels", "10"), "less than --max_image_pixels 50000000"),
        (("--name", "a/b"), "'a/b' cannot be part of an address"),
    ],
)
def test_a_value_that_no_server_can_have_is_refused(started, arguments, message, capsys):
    with pytest.raises(SystemExit):
        serve_verb.main(["models/pets", *arguments])
    assert message in capsys.readouterr().err and not started


def test_a_wrong_or_taken_port_is_told_before_the_model_is_loaded(started, monkeypatch, capsys):
    monkeypatch.setattr(predictor, "load_model", None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        serve_verb.main(["models/pets", "--port", str(taken.getsockname()[1])])
    captured = capsys.readouterr()
    assert "Choose another --port" in captured.err and "http://" not in captured.out
    monkeypatch.setenv("AIP_HTTP_PORT", "abc")
    with pytest.raises(SystemExit):
        serve_verb.main(["models/pets"])
    assert "AIP_HTTP_PORT or SAGEMAKER_BIND_TO_PORT is abc" in capsys.readouterr().err
