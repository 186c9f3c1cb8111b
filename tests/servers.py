"""Servers on loopback; among them one that behaves as badly as it is told to."""

import contextlib
import gzip
import hashlib
import http.server
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

DATA = random.Random(7).randbytes(17_000)  # no two stretches are alike: a wrong join shows
SHA = hashlib.sha256(DATA).hexdigest()
HTML = b"<!DOCTYPE html><html>try again later</html>"
CLOSE = "close"  # instead of a Content-Length: the body ends when the connection does


@dataclass(frozen=True)
class Act:
    """How one request is answered.

    Attributes:
        body: what the server takes for the file.
        status: of the answer; 200 becomes 206 where a range is served.
        headers: sent besides.
        ranges: whether Range is honoured.
        if_range: whether If-Range is honoured.
        content_range: sent instead of the true one.
        content_length: sent instead of the true one; ``CLOSE``: none, ``"chunked"``: in chunks.
        drop_after: hang up after so many bytes of the body.
        stall_after: send nothing more after so many bytes of the body.
        zipped: send it gzip-encoded, whatever was asked for.
        hold: wait in the middle of the body for the server's ``go_on``.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True
    content_range: str | None = None
    content_length: str | None = None
    drop_after: int | None = None
    stall_after: int | None = None
    zipped: bool = False
    hold: bool = False


@dataclass(frozen=True)
class Asked:
    """What a request asked for."""

    path: str
    range: str | None
    if_range: str | None


class Loopback(http.server.ThreadingHTTPServer):
    """A server on 127.0.0.1, at a port of the system's choice."""

    daemon_threads = True
    # A waiting handler must not hold up the end of the test.
    block_on_close = False

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        with self:
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    """A handler that keeps connections and writes no log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass


class Server(Loopback):
    """Answers the n-th request for a path with its n-th act; then always with the last one."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.acts: dict[str, Sequence[Act]] = {}
        self.asked: list[Asked] = []
        self.go_on = threading.Event()
        self.ended = threading.Event()

    def url(self, path: str) -> str:
        return f"{self.endpoint}/{path}"

    def plays(self, **acts: Act | Sequence[Act]) -> list[str]:
        """Set the acts of each path; the paths' URLs, in order."""
        self.acts = {p: [a] if isinstance(a, Act) else list(a) for p, a in acts.items()}
        return [self.url(path) for path in acts]

    @property
    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [asked.path for asked in self.asked]

    @property
    def ranges(self) -> list[str | None]:
        """The ranges asked for, in order."""
        return [asked.range for asked in self.asked]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that runs while the block does."""
    server = Server()
    with server.running():
        try:
            yield server
        finally:
            server.ended.set()


class _Handler(Quiet):
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        path = self.path.removeprefix("/")
        acts = self.server.acts.get(path, [Act(b"gone", 404)])
        before = self.server.paths.count(path)
        self.server.asked.append(Asked(path, self.headers["Range"], self.headers["If-Range"]))
        act = acts[min(before, len(acts) - 1)]
        status, body, headers = self._range(act)
        if act.zipped:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            self._send(act, status, body, headers | dict(act.headers))

    def _range(self, act: Act) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers, by what was asked and what the act honours."""
        asked, version = self.headers["Range"], self.headers["If-Range"]
        known = (act.headers.get("ETag"), act.headers.get("Last-Modified"))
        changed = act.if_range and version is not None and version not in known
        if act.status != 200 or not act.ranges or asked is None or changed:
            return act.status, act.body, {}
        begin = re.fullmatch(r"bytes=(\d+)-", asked)
        assert begin, f"a range that no server knows: {asked}"
        start, total = int(begin[1]), len(act.body)
        if start >= total:
            return 416, b"", {"Content-Range": f"bytes */{total}"}
        true = f"bytes {start}-{total - 1}/{total}"
        return 206, act.body[start:], {"Content-Range": act.content_range or true}

    def _send(self, act: Act, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if act.content_length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            sent = body
            if act.content_length != CLOSE:
                self.send_header("Content-Length", act.content_length or str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        end = act.drop_after if act.stall_after is None else act.stall_after
        if act.hold:
            self.wfile.write(sent[:1000])
            self.server.go_on.wait(10)
        self.wfile.write(sent[1000 if act.hold else 0 : end])
        if act.stall_after is not None:
            self.server.ended.wait(10)
