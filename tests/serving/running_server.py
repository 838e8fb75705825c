"""A server in a thread, and a client of it."""

import contextlib
import threading
import time

import httpx
import uvicorn

from tf_image_classification.serving import server
from tf_image_classification.serving.app import ServerOptions, make_app
from tiny_runs import free_ports


@contextlib.contextmanager
def serving(models, sources=None, **options):
    """The server; gives a client.

    Args:
        models: one, whose name is "tiny", or several by name.
        sources: as ``make_app``.
        options: fields of ``ServerOptions``.
    """
    models = models if isinstance(models, dict) else {"tiny": models}
    [port] = free_ports(1)
    made = ServerOptions(**options)
    settings = server.uvicorn_options(made) | {"log_level": "error"}
    config = uvicorn.Config(make_app(models, made, sources), port=port, **settings)
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
