"""Vertex AI's REST API as far as a job is created: on loopback, remembers what it was sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeVertex:
    """The service.

    Attributes:
        received: path and body of every request.
        refusal: an answer's code and message instead of success, or None.
    """

    def __init__(self):
        self.received = []
        self.refusal = None

    def __enter__(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.received.append((self.path.partition("?")[0], body))
                code, answer = 200, body | {"name": f"{self.path.partition('?')[0][4:]}/123"}
                if fake.refusal:
                    code, message = fake.refusal
                    answer = {"error": {"code": code, "message": message}}
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self):
        """Its address."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"
