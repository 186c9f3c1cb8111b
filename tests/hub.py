"""A Hub on loopback: what the unmodified clients call, kept in memory, with faults on demand.

Datasets alone, files by LFS or in the commit. It has no Xet (``HF_HUB_DISABLE_XET=1`` in clients)
unless it is given a folder that Xet's own client may use for a store.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import Loopback, Quiet

LFS = (".parquet", ".tar", ".png", ".arrow")
TOKEN, READER = "hf_writerOfMe0123456789", "hf_readerOnly0123456789"
USERS = {TOKEN: "me", READER: "you"}


@dataclass(frozen=True)
class File:
    """A file of a commit; its bytes are ``Hub.blobs[sha256]``."""

    sha256: str
    size: int
    oid: str  # of git
    lfs: bool


@dataclass
class Repo:
    """A repository: its commits, oldest first, and the names of some."""

    kind: str
    private: bool
    gated: str | bool = False
    commits: list[tuple[str, Mapping[str, File]]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, File], branch: str) -> str:
        told = [len(self.commits), *sorted((path, file.oid) for path, file in files.items())]
        oid = hashlib.sha1(repr(told).encode()).hexdigest()
        self.commits.append((oid, dict(files)))
        self.branches[branch] = oid
        return oid

    def files(self, revision: str) -> tuple[str, Mapping[str, File]]:
        oid = (self.branches | self.tags).get(revision, revision)
        return next(entry for entry in self.commits if entry[0] == oid)


class Hub(Loopback):
    """The server and all that it knows."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        # Pattern of "METHOD path", status; 0 cuts the line, -1 says nothing until ``go_on``.
        self.faults: list[tuple[str, int]] = []
        self.xet: Path | None = None  # where Xet's client keeps what it is sent
        self.xet_hashes: dict[str, str] = {}  # its name of a file, by sha256
        self.silent, self.go_on = threading.Event(), threading.Event()
        self.lock = threading.RLock()

    def count(self, pattern: str) -> int:
        """How many requests "METHOD path" matched."""
        return sum(bool(re.search(pattern, f"{m} {p}")) for m, p, _ in self.asked)

    def put(self, name: str, path: str, data: bytes) -> None:
        """Commit one file, as another client would."""
        repo = self.repos[name]
        files = repo.files("main")[1]
        repo.commit({**files, path: self.file(data, path.endswith(LFS))}, "main")

    def read(self, name: str, path: str, revision: str = "main") -> bytes:
        return self.blobs[self.repos[name].files(revision)[1][path].sha256]

    def file(self, data: bytes, lfs: bool) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return File(sha256, len(data), _git_oid(data), lfs)


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub that runs while the block does."""
    hub = Hub()
    with hub.running():
        try:
            yield hub
        finally:
            hub.go_on.set()


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        self.status, self.message, self.code = status, message, code


class _Handler(Quiet):
    server: Hub
    wbufsize = 1 << 16

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:  # noqa: N802  the library's name
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        self.query = urllib.parse.parse_qs(url.query)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with self.server.lock:
            self.server.asked.append((self.command, path, self.headers["Range"]))
            fault = self._fault(f"{self.command} {path}")
        if fault == -1:
            self.server.silent.set()
            self.server.go_on.wait(60)
        if fault in (0, -1):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        try:
            if fault:
                raise _RefusedError(fault, "the Hub is out of order")
            with self.server.lock:
                self._route(path, body)
        except _RefusedError as refused:
            headers = {"X-Error-Message": refused.message}
            headers |= {"X-Error-Code": refused.code} if refused.code else {}
            self._json({"error": refused.message}, refused.status, headers)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  the library's names

    def _fault(self, line: str) -> int | None:
        for number, (pattern, status) in enumerate(self.server.faults):
            if re.search(pattern, line):
                del self.server.faults[number]
                return status
        return None

    def _route(self, path: str, body: bytes) -> None:
        for pattern, name in ROUTES:
            found = re.fullmatch(f"(?:{pattern})", f"{self.command} {path}")
            if found:
                getattr(self, f"_{name}")(body, **found.groupdict())
                return
        raise _RefusedError(404, f"no such page: {path}")

    # --- who, and what they may -----------------------------------------------------------------

    def _user(self) -> str | None:
        given = self.headers["Authorization"]
        if given is None:
            return None
        user = USERS.get(given.removeprefix("Bearer "))
        if user is None:
            raise _RefusedError(401, "Invalid credentials in Authorization header")
        return user

    def _repo(self, repo: str, write: bool = False) -> Repo:
        user, found = self._user(), self.server.repos.get(repo)
        mine = user is not None and user == repo.partition("/")[0]
        if found is None or found.kind != "dataset" or (found.private and not mine):
            raise _RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not mine:
            raise _RefusedError(403, f"{user} may not write to {repo}")
        return found

    def _files(self, repo: str, revision: str) -> tuple[str, Mapping[str, File]]:
        try:
            return self._repo(repo).files(revision)
        except StopIteration:
            raise _RefusedError(404, f"no revision {revision}", "RevisionNotFound") from None

    def _whoami(self, body: bytes) -> None:
        user = self._user()
        if user is None:
            raise _RefusedError(401, "Invalid username or password.")
        role = "write" if user == "me" else "read"
        token = {"accessToken": {"displayName": "test", "role": role}}
        self._json({"type": "user", "name": user, "orgs": [], "auth": {"type": "x", **token}})

    # --- writing ----------------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        asked, user = json.loads(body), self._user()
        name = f"{asked['organization'] or user}/{asked['name']}"
        if user is None or name.partition("/")[0] != user:
            raise _RefusedError(403, f"You don't have the rights to create a dataset under {name}")
        url = {"url": f"{self.server.endpoint}/datasets/{name}"}
        if name in self.server.repos:
            self._json({"error": "You already created this repo"} | url, 409)
            return
        repo = Repo(asked["type"], asked.get("visibility") == "private")
        repo.commit({".gitattributes": self.server.file(b"*.parquet filter=lfs\n", False)}, "main")
        self.server.repos[name] = repo
        self._json(url)

    def _yaml(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def _settings(self, body: bytes, repo: str) -> None:
        found, asked = self._repo(repo, write=True), json.loads(body)
        found.gated = asked.get("gated", found.gated)
        visibility = asked.get("visibility", "private" if asked.get("private") else None)
        found.private = visibility == "private" if visibility else found.private
        self._json({})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        self._repo(repo, write=True)
        _, there = self._files(repo, revision)
        answer = []
        for file in json.loads(body)["files"]:
            lfs, known = file["path"].endswith(LFS), there.get(file["path"])
            answer.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    "oid": known and (known.sha256 if lfs else known.oid),
                }
            )
        self._json({"files": answer})

    def _batch(self, body: bytes, repo: str) -> None:
        self._repo(repo, write=True)
        objects = []
        for asked in json.loads(body)["objects"]:
            href = f"{self.server.endpoint}/lfs/{asked['oid']}"
            new = {"actions": {"upload": {"href": href}}}
            objects.append(asked | (new if asked["oid"] not in self.server.blobs else {}))
        self._json({"transfer": "basic", "objects": objects})

    def _xet(self, body: bytes, repo: str) -> None:
        self._repo(repo)
        if self.server.xet is None:
            raise _RefusedError(404, "no Xet here")
        told = {"casUrl": f"local://{self.server.xet}", "accessToken": "x", "exp": 1 << 40}
        names = "X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration"
        self._json(told, headers=dict(zip(names, map(str, told.values()), strict=True)))

    def _upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _RefusedError(400, "other bytes than promised")
        self.server.blobs[oid] = body
        self._json({})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        found = self._repo(repo, write=True)
        head, there = self._files(repo, revision)
        files = dict(there)
        for line in map(json.loads, body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit", head) != head:
                raise _RefusedError(
                    412, "A commit has happened since. Please refresh and try again."
                )
            if key == "file":
                data = base64.b64decode(value["content"])
                files[value["path"]] = self.server.file(data, False)
            if key == "lfsFile":
                data = self.server.blobs.get(value["oid"], b"")  # in Xet's store, otherwise
                size = len(data) or value["size"]
                files[value["path"]] = File(value["oid"], size, _git_oid(data), True)
            if key == "deletedFile":
                del files[value["path"]]
        oid = found.commit(files, revision)
        url = f"{self.server.endpoint}/datasets/{repo}/commit/{oid}"
        self._json({"commitUrl": url, "commitOid": oid, "success": True})

    def _tag(self, body: bytes, repo: str, revision: str) -> None:
        found, tag = self._repo(repo, write=True), json.loads(body)["tag"]
        if tag in found.tags:
            raise _RefusedError(409, f"tag {tag} is there already")
        found.tags[tag] = self._files(repo, revision)[0]
        self._json({})

    def _branch(self, body: bytes, repo: str, name: str) -> None:
        found = self._repo(repo, write=True)
        if name in found.branches:
            raise _RefusedError(409, f"branch {name} is there already")
        start = json.loads(body or b"{}").get("startingPoint", "main")
        found.branches[name] = found.files(start)[0]
        self._json({})

    # --- reading ----------------------------------------------------------------------------------

    def _info(self, body: bytes, repo: str, revision: str | None) -> None:
        found = self._repo(repo)
        oid, files = self._files(repo, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        shown = {"private": found.private, "gated": found.gated, "tags": [], "disabled": False}
        self._json({"id": repo, "_id": "0", "sha": oid, "siblings": siblings, **shown})

    def _tree(self, body: bytes, repo: str, revision: str, folder: str | None) -> None:
        _, files = self._files(repo, revision)
        prefix = f"{folder}/" if folder else ""
        below = {path: file for path, file in files.items() if path.startswith(prefix)}
        if folder and not below:
            raise _RefusedError(404, f"{folder} does not exist", "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, Any] = {}
        for path, file in below.items():
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if deep else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                entries[name] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
            if deep or len(parts) == 1:
                entries[path] = self._entry(path, file)
        self._json(list(entries.values()))

    def _paths(self, body: bytes, repo: str, revision: str) -> None:
        _, files = self._files(repo, revision)
        kind = self.headers["Content-Type"] or ""
        asked = json.loads(body) if "json" in kind else urllib.parse.parse_qs(body.decode())
        self._json([self._entry(path, files[path]) for path in asked["paths"] if path in files])

    def _entry(self, path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
            entry["xetHash"] = self.server.xet_hashes.get(file.sha256)
        return entry

    def _refs(self, body: bytes, repo: str) -> None:
        found = self._repo(repo)
        told = {
            kind: [
                {"name": n, "ref": f"{place}/{n}", "targetCommit": oid} for n, oid in names.items()
            ]
            for kind, place, names in (
                ("branches", "refs/heads", found.branches),
                ("tags", "refs/tags", found.tags),
            )
        }
        self._json(told | {"converts": []})

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        found = self._repo(repo)
        oid, files = self._files(repo, revision)
        commit = {"X-Repo-Commit": oid}
        if found.gated and self._user() != repo.partition("/")[0]:
            raise _RefusedError(403, "Access to it is restricted", "GatedRepo")
        if path not in files:
            headers = commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"}
            self._json({"error": "no such file"}, 404, headers)
            return
        file = files[path]
        tag = file.sha256 if file.lfs else file.oid
        headers = commit | {"ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(file.size)}
        if file.sha256 not in self.server.blobs:
            raise _RefusedError(404, "it is to be had by Xet alone", "EntryNotFound")
        data = self.server.blobs[file.sha256]
        begin = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if begin is None:
            self._send(200, data, headers)
            return
        first, last = int(begin[1]), min(int(begin[2] or file.size), file.size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        self._send(206 if first <= last else 416, data[first : last + 1], headers)

    def _json(self, values: Any, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(status, json.dumps(values).encode(), kind | dict(headers))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


API = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"
ROUTES = (
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "yaml"),
    (rf"PUT {API}/settings", "settings"),
    (rf"POST {API}/preupload/(?P<revision>.+)", "preupload"),
    (r"POST /datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    (rf"GET {API}/xet-(?:read|write)-token/.+", "xet"),
    (r"PUT /lfs/(?P<oid>\w+)", "upload"),
    (rf"POST {API}/commit/(?P<revision>.+)", "commit"),
    (rf"POST {API}/tag/(?P<revision>.+)", "tag"),
    (rf"POST {API}/branch/(?P<name>.+)", "branch"),
    (rf"GET {API}/refs", "refs"),
    (rf"GET {API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", "tree"),
    (rf"POST {API}/paths-info/(?P<revision>[^/]+)", "paths"),
    (rf"GET {API}(?:/revision/(?P<revision>.+))?", "info"),
    (
        r"(?:HEAD|GET) /datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        "resolve",
    ),
)
