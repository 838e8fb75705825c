"""The server: answers of the model, errors for everything else, nothing lost."""

import asyncio
import base64
import contextlib
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

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from browser import open_page
from tf_image_classification import load_model
from tf_image_classification.cli import serve as serve_verb
from tf_image_classification.serving import predictor, server
from tf_image_classification.serving.batcher import (
    Batcher,
    Limits,
    QueueFullError,
    StoppedError,
)
from tf_image_classification.serving.server import ServerOptions, make_app
from tiny_runs import free_ports

AT = "/v1/models/tiny"


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


@contextlib.contextmanager
def serving(model, **options):
    """The server in a thread; gives a client."""
    [port] = free_ports(1)
    config = uvicorn.Config(
        make_app(model, ServerOptions(name="tiny", **options)), port=port, log_level="error"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


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
    assert client.get("/openapi.json").json()["paths"][f"{AT}:predict"]
    assert 'tfic_requests_total{status="200"}' in client.get("/metrics").text


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
        (b'{"instances": [{"b64": "!"}]}', "not base64"),
        (b'{"instances": [3]}', "of the form"),
        (b'{"instances": [1], "inputs": [1]}', "Expected"),
        (b'{"instances": [{"b64": "aGFsbG8="}]}', "not an image"),
        (b'{"instances": [{"b64": ""}], "signature_name": "x"}', "one signature"),
    ],
)
def test_what_is_no_request_is_refused(client, body, text):
    found = client.post(f"{AT}:predict", content=body)
    assert found.status_code == 400 and text in found.json()["error"]


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
    if "oneOf" in schema:
        return st.one_of([bodies(one) for one in schema["oneOf"]])
    if schema["type"] == "string":
        return st.text(max_size=20) | st.binary(max_size=20).map(lambda b: b64(b)["b64"])
    if schema["type"] == "array":
        return st.lists(bodies(schema["items"]), max_size=4)
    required = {name: bodies(inner) for name, inner in schema["properties"].items()}
    return st.fixed_dictionaries(required, optional={"other": JSON})


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


def test_a_token_is_asked_for(model, shipped_run):
    with serving(model, token="s3cret", health_route="/alive", predict_route="/say") as client:
        body = {"instances": [b64(shipped_run.images[0])]}
        assert client.post(f"{AT}:predict", json=body).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/say", json=body, headers=right).status_code == 200
        assert (
            client.post("/say", json=body, headers={"Authorization": "Bearer s"}).status_code == 401
        )
        assert client.get("/alive").status_code == 200
        assert client.get("/metrics").status_code == 401


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
        process.wait(30)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/alive")
    finally:
        process.kill()
        process.wait()


def test_the_page_shows_the_classes_and_where_the_model_looks(client, shipped_run, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(shipped_run.images[0])
    with open_page(str(client.base_url)) as (page, complaints):
        page.set_input_files("#file", str(picture))
        page.wait_for_selector("#result:not([hidden]) h2")
        assert page.inner_text("#labels h2").startswith("kind: ")
        assert page.locator("#labels table tr").count() == 3
        assert page.is_visible("#heat")
        page.uncheck("#show")
        assert not page.is_visible("#heat")
        (tmp_path / "no.png").write_bytes(b"no image")
        page.set_input_files("#file", str(tmp_path / "no.png"))
        page.wait_for_selector("#error:not(:empty)")
        assert [c for c in complaints if "400" not in c] == []


# --- the verb ----------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What the verb would serve: options, host and port."""
    found = []
    model = types.SimpleNamespace(step=1)
    monkeypatch.setattr(predictor, "load_model", lambda path, max_pixels: model)
    monkeypatch.setattr(server, "serve", lambda model, *how: found.extend(how))
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
        (("--port", "99999"), "--port is 99999, expected a port"),
        (("--port", "-1"), "--port is -1, expected a port"),
        (("--max_body_mb", "nan"), "--max_body_mb is nan, expected a number above 0"),
        (("--timeout_secs", "inf"), "--timeout_secs is inf"),
        (("--max_wait_ms", "-1"), "--max_wait_ms is -1, expected at least 0"),
        (("--max_image_pixels", "0"), "--max_image_pixels is 0, expected at least 1"),
        (("--max_batch_size", "0"), "--max_batch_size is 0"),
        (("--token_file", "no/such"), "--token_file no/such cannot be read"),
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
    assert "AIP_HTTP_PORT is abc" in capsys.readouterr().err
