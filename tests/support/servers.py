"""A web server on the loopback interface with options and faults of real servers, for tests of downloads."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """A fault of one GET.

    Another status, the end of the transfer or no more data after some bytes, another body, wrong headers; a body without an
    end, or a byte of headers and body every 50 ms.
    """

    status: int = 0
    cut_after: int | None = None
    stall_after: int | None = None
    is_endless: bool = False
    drips: bool = False
    body: bytes | None = None
    content_type: str = "application/zip"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """The files and options of a server, and the requests that it received."""

    url: str
    files: dict[str, bytes]
    faults: list[Fault] = field(default_factory=list)  # one for each GET, in order; later requests succeed
    path_faults: dict[str, list[Fault]] = field(default_factory=dict)  # the same, by path
    knows_ranges: bool = True
    knows_if_range: bool = True
    states_length: bool = True
    names_version: bool = True
    keeps_alive: bool = False
    slow_bytes_per_s: int = 0
    gets: list[tuple[str, int]] = field(default_factory=list)  # path, first byte requested
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(files: dict[str, bytes], **options: object) -> Iterator[Server]:
    """Serve `files` (path -> content) on a free port while the context lasts."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}", files, **options)  # type: ignore[arg-type]
    httpd.settings = server  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    def setup(self) -> None:
        super().setup()
        self._server().connections += 1
        self.protocol_version = "HTTP/1.1" if self._server().keeps_alive else "HTTP/1.0"

    def do_HEAD(self) -> None:
        server = self._server()
        server.heads.append(self.path)
        self._start(200 if self.path in server.files else 404, server.files.get(self.path, b""), {})

    def do_GET(self) -> None:
        server = self._server()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        server.gets.append((self.path, start))
        plan = server.path_faults.get(self.path) or server.faults
        fault = plan.pop(0) if plan else Fault()
        content = fault.body if fault.body is not None else server.files.get(self.path, b"")
        status = fault.status or (200 if self.path in server.files else 404)
        version = _etag(content)
        fresh = not server.knows_if_range or self.headers.get("If-Range", version) == version
        headers = ({"ETag": version} if server.names_version else {}) | {"Content-Type": fault.content_type}
        if status == 200 and start and server.knows_ranges and fresh:
            status = 206 if start < len(content) else 416
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        content = content if status < 300 else b""
        if fault.drips and not fault.headers:  # headers given: only the body drips
            self._drip(b"HTTP/1.0 200 OK\r\nX: " + b"x" * 9999)
            return
        self._start(status, content, headers | fault.headers)
        self._send(content, fault)

    def _start(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        if self._server().states_length and headers.get("Content-Length") != "":
            headers = {"Content-Length": str(len(content))} | headers
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def _send(self, content: bytes, fault: Fault) -> None:
        server = self._server()
        if fault.drips:
            self._drip(content)
            return
        end = next((after for after in (fault.cut_after, fault.stall_after) if after is not None), len(content))
        step = server.slow_bytes_per_s // 20 or max(end, 1)
        for start in range(0, end, step):
            self.wfile.write(content[start:min(start + step, end)])
            if server.slow_bytes_per_s and server.closing.wait(0.05):
                return
        while fault.is_endless and not server.closing.is_set():
            self.wfile.write(content or bytes(1 << 16))
        if fault.stall_after is not None:
            server.closing.wait(20)
        self.close_connection = self.close_connection or end < len(content) or "Content-Length" in fault.headers

    def _drip(self, content: bytes) -> None:
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self._server().closing.wait(0.05):
                break
        self.close_connection = True

    def _server(self) -> Server:
        return self.server.settings  # type: ignore[attr-defined, no-any-return]

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client closed the connection, as many tests do

    def log_message(self, format: str, *args: object) -> None:
        """Do not log requests."""


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha1(content).hexdigest()}"'
