"""Google Cloud Storage in memory, on loopback, for tests.

    with FakeGcs("bucket") as gcs:
        subprocess.run(command, env=os.environ | gcs.environment())

It speaks the part of the JSON API that TensorFlow's ``gs://`` and ``google-cloud-storage`` use.
TensorFlow knows no other address than Google's, but honours ``https_proxy``: so there is a proxy
that ends TLS itself, with a certificate that ``CURL_CA_BUNDLE`` makes trusted.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import json
import os
import re
import socket
import ssl
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c
import trustme

TOKEN = "token-that-must-not-be-written-anywhere"
HOSTS = ("www.googleapis.com", "storage.googleapis.com", "oauth2.googleapis.com")


@dataclasses.dataclass
class Stored:
    """An object of a bucket."""

    data: bytes
    generation: int
    time: float


@dataclasses.dataclass
class Failure:
    """Answers to come that are errors."""

    code: int
    count: int
    method: str
    path: str


class FakeGcs:
    """The service; everything about it may be asked and changed while it runs.

    Attributes:
        buckets: objects by name, by bucket.
        requests: method and path of every request, in order.
    """

    def __init__(self, *buckets):
        self.buckets = {name: {} for name in buckets}
        self.requests = []
        self.lock = threading.RLock()
        self.uploads = {}
        self._generation = 0
        self._failures = []
        self._folder = tempfile.TemporaryDirectory()
        authority = trustme.CA()
        self._authority_path = os.path.join(self._folder.name, "authority.pem")
        authority.cert_pem.write_to_path(self._authority_path)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(self._tls)

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.gcs = self
        self._proxy = socket.create_server(("127.0.0.1", 0))
        for run in (self.server.serve_forever, self._serve_proxy):
            threading.Thread(target=run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self._proxy.shutdown(socket.SHUT_RDWR)
        self._proxy.close()
        self._folder.cleanup()

    @property
    def url(self):
        """Where ``google-cloud-storage`` finds the service."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self):
        """Variables under which a process finds this service instead of Google's."""
        return {
            "https_proxy": f"http://127.0.0.1:{self._proxy.getsockname()[1]}",
            "CURL_CA_BUNDLE": self._authority_path,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": TOKEN,
            "STORAGE_EMULATOR_HOST": self.url,
            "NO_GCE_CHECK": "true",
            "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "1000",
            "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "10000",
        }

    def fail(self, code, *, count=1, method="", path=""):
        """Answer the next requests, of a method and with a pattern in their path, with a code."""
        with self.lock:
            self._failures.append(Failure(code, count, method, path))

    def recover(self):
        """Fail no more."""
        with self.lock:
            self._failures.clear()

    def failure_of(self, method, path):
        """The code that a request is to get, or None."""
        with self.lock:
            for failure in self._failures:
                fits = failure.method in ("", method) and re.search(failure.path, unquote(path))
                if failure.count and fits:
                    failure.count -= 1
                    return failure.code
        return None

    def counts(self):
        """How many requests there were by method."""
        return collections.Counter(method for method, _ in self.requests)

    def names(self, bucket):
        """The names of a bucket's objects, without the markers of folders."""
        return sorted(name for name in self.buckets[bucket] if not name.endswith("/"))

    def put(self, bucket, name, data):
        """Store an object."""
        with self.lock:
            self._generation += 1
            self.buckets[bucket][name] = Stored(bytes(data), self._generation, time.time())
            return self.describe(bucket, name)

    def describe(self, bucket, name):
        """An object as the JSON API tells of it."""
        stored = self.buckets[bucket][name]
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.time))
        checksum = google_crc32c.value(stored.data).to_bytes(4, "big")
        return {
            "kind": "storage#object", "name": name, "bucket": bucket,
            "id": f"{bucket}/{name}/{stored.generation}", "size": str(len(stored.data)),
            "generation": str(stored.generation), "metageneration": "1",
            "timeCreated": moment, "updated": moment, "storageClass": "STANDARD",
            "contentType": "application/octet-stream", "etag": str(stored.generation),
            "crc32c": base64.b64encode(checksum).decode(),
            "mediaLink": f"{self.url}/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
            "?alt=media",
        }  # fmt: skip

    def _serve_proxy(self):
        while True:
            try:
                connection, _ = self._proxy.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve_tunnel, args=(connection,), daemon=True).start()

    def _serve_tunnel(self, connection):
        """Answer one CONNECT, and then the requests inside it as the host that it names."""
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(4096)
            if not part:
                return
            received += part
        host = received.split(b" ")[1].decode().partition(":")[0]
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                type("_Tunnelled", (_Handler,), {"base": f"https://{host}"})(
                    secured, ("127.0.0.1", 0), self.server
                )
        except OSError:  # the client has gone, as one that is killed does
            pass


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    base = ""  # of addresses in answers; that of the plain port unless tunnelled

    def log_message(self, *_):
        """Say nothing."""

    def answer(self):
        """Answer one request of any method."""
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, True).items()}
        body = self._body()
        gcs = self.gcs = self.server.gcs
        with gcs.lock:
            gcs.requests.append((self.command, unquote(self.path)))
        code = gcs.failure_of(self.command, self.path)
        if code is not None:
            return self._error(code, "a failure that was asked for")
        for pattern, respond in _ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match:
                return respond(self, query, body, *map(unquote, match.groups()))
        return self._error(404, f"no such method: {self.command} {url.path}")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

    def _body(self):
        # TensorFlow sends both headers; then the chunks count (RFC 9112, 6.3).
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, code, content=b"", headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in (("Content-Type", kind), ("Content-Length", len(data)), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, code, message):
        error = {"code": code, "message": message, "errors": [{"message": message}]}
        self._send(code, {"error": error})

    def bucket(self, query, body, bucket):
        """A bucket itself."""
        if bucket not in self.gcs.buckets:
            return self._error(404, "The specified bucket does not exist.")
        return self._send(200, {"kind": "storage#bucket", "name": bucket, "location": "US"})

    def listing(self, query, body, bucket):
        """The objects of a bucket whose names begin in one way, folder by folder if asked for."""
        if bucket not in self.gcs.buckets:
            return self._error(404, "The specified bucket does not exist.")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names, folders = [], set()
        with self.gcs.lock:
            for name in sorted(self.gcs.buckets[bucket]):
                rest = name[len(prefix) :]
                if not name.startswith(prefix) or name < query.get("startOffset", ""):
                    continue
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                    if rest.partition(delimiter)[2] or not query.get("includeTrailingDelimiter"):
                        continue
                names.append(name)
            first, most = int(query.get("pageToken") or 0), int(query.get("maxResults") or 1000)
            page = names[first : first + most]
            answer = {"items": [self.gcs.describe(bucket, name) for name in page]}
        if folders and not first:
            answer["prefixes"] = sorted(folders)
        if first + most < len(names):
            answer["nextPageToken"] = str(first + most)
        return self._send(200, {key: value for key, value in answer.items() if value})

    def an_object(self, query, body, bucket, name):
        """An object: what is known of it, its content, or its end."""
        with self.gcs.lock:
            if name not in self.gcs.buckets.get(bucket, {}):
                return self._error(404, f"No such object: {bucket}/{name}")
            if self.command == "DELETE":
                del self.gcs.buckets[bucket][name]
                return self._send(204)
            if query.get("alt") == "media":
                return self.content(query, body, bucket, name)
            return self._send(200, self.gcs.describe(bucket, name))

    def content(self, query, body, bucket, name):
        """The bytes of an object, or a range of them."""
        stored = self.gcs.buckets.get(bucket, {}).get(name)
        if stored is None:
            return self._error(404, f"No such object: {bucket}/{name}")
        length = len(stored.data)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = [("ETag", stored.generation), ("x-goog-generation", stored.generation)]
        if not wanted:
            return self._send(200, stored.data, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or length), length - 1)
        if first >= length:
            return self._send(416, b"", [("Content-Range", f"bytes */{length}")])
        headers.append(("Content-Range", f"bytes {first}-{last}/{length}"))
        return self._send(206, stored.data[first : last + 1], headers)

    def copy(self, query, body, bucket, name, other_bucket, other_name):
        """An object under another name."""
        with self.gcs.lock:
            stored = self.gcs.buckets.get(bucket, {}).get(name)
            if stored is None:
                return self._error(404, f"No such object: {bucket}/{name}")
            described = self.gcs.put(other_bucket, other_name, stored.data)
        size = described["size"]
        answer = {"kind": "storage#rewriteResponse", "done": True, "resource": described}
        return self._send(200, answer | {"totalBytesRewritten": size, "objectSize": size})

    def upload(self, query, body, bucket):
        """An upload: whole, in two parts, or in pieces."""
        if bucket not in self.gcs.buckets:
            return self._error(404, "The specified bucket does not exist.")
        kind, identifier = query.get("uploadType"), query.get("upload_id")
        if identifier:
            return self._piece(body, identifier)
        if kind == "multipart":
            boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            described, data = (
                part.partition(b"\r\n\r\n")[2][:-2] for part in body.split(b"--" + boundary)[1:-1]
            )
            query = query | json.loads(described)
        elif kind == "resumable":
            told = json.loads(body) if body.strip() else {}
            identifier = uuid.uuid4().hex
            self.gcs.uploads[identifier] = (bucket, told.get("name") or query["name"], bytearray())
            address = f"{self.base or self.gcs.url}/upload/storage/v1/b/{bucket}/o"
            location = f"{address}?uploadType=resumable&upload_id={identifier}"
            return self._send(200, b"", [("Location", location)])
        else:
            data = body
        expected = query.get("ifGenerationMatch")
        with self.gcs.lock:
            there = self.gcs.buckets[bucket].get(query["name"])
            if expected is not None and int(expected) != (there.generation if there else 0):
                return self._error(412, "The generation is another one.")
            return self._send(200, self.gcs.put(bucket, query["name"], data))

    def _piece(self, body, identifier):
        bucket, name, gathered = self.gcs.uploads[identifier]
        told = self.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (?:\*|(\d+)-\d+)/(\*|\d+)", told)
        if not match or match[1]:
            del gathered[int(match[1]) if match else 0 :]
            gathered += body
        if not match or (match[2] != "*" and len(gathered) >= int(match[2])):
            return self._send(200, self.gcs.put(bucket, name, gathered))
        there = [("Range", f"bytes=0-{len(gathered) - 1}")] if gathered else []
        return self._send(308, b"", there)


_OBJECT = "/b/([^/]+)/o/([^/]+)"
_ROUTES = [
    ("/(?:resumable/)?upload/storage/v1/b/([^/]+)/o", _Handler.upload),
    ("/storage/v1/b/([^/]+)", _Handler.bucket),
    ("/storage/v1/b/([^/]+)/o", _Handler.listing),
    (f"/storage/v1{_OBJECT}/(?:rewriteTo|copyTo){_OBJECT}", _Handler.copy),
    (f"(?:/download)?/storage/v1{_OBJECT}", _Handler.an_object),
    ("/([^/]+)/(.+)", _Handler.content),
]
