"""A server on this machine that speaks as much of the hub's protocol as a push and a fetch need.

As on the hub, arrays (``*.safetensors``) are large files: a push sends them by Git LFS, whole or in
parts, and a fetch is redirected to where they lie. The hub's other way for them, Xet, needs a
service of its own; clients leave it out with ``HF_HUB_DISABLE_XET``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories in memory: ``files`` by repository, which are ``private``, and ``asked`` paths.

    ``large`` holds the contents of large files by their SHA-256; the repository me/parts takes them
    in three parts. Only what a client with ``token`` asks is answered.
    """

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.large: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.token = token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def store(self) -> str:
        """Where large files lie: of another name, as on the hub."""
        return f"http://localhost:{self.server_port}/lfs"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"POST {self.path}")
        signed = self.path.startswith("/lfs/")  # such addresses need no token
        if not signed and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.files.setdefault(name, {})
            self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
            return self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        name, _, rest = self.path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            files = [
                {"path": one["path"], "uploadMode": "lfs" if _large(one["path"]) else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return self._json({"files": files})
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._json({"objects": list(map(self._upload, json.loads(body)["objects"]))})
        if signed:  # all parts are there, or the whole to be verified
            asked = json.loads(body)
            if "parts" in asked:
                order = sorted(one["partNumber"] for one in asked["parts"])
                whole = b"".join(self.server.parts[f"{asked['oid']}/{k}"] for k in order)
                self.server.large[asked["oid"]] = whole
            content = self.server.large.get(asked["oid"], b"")
            right = hashlib.sha256(content).hexdigest() == asked["oid"]
            return self._json({}, 200 if right else 422)
        name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.files[name][line["value"]["path"]] = content
            if line["key"] == "lfsFile":
                content = self.server.large[line["value"]["oid"]]
                self.server.files[name][line["value"]["path"]] = content
        commit = self._commit(name)
        return self._json({
            "commitOid": commit, "commitUrl": f"{self.server.url}/{name}/commit/{commit}",
            "success": True,
        })  # fmt: skip

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where a large file is to be sent, as the Git LFS batch API has it."""
        href = f"{self.server.store}/{asked['oid']}"
        header = {}
        if self.path.startswith("/me/parts."):
            header = {str(k): f"{href}/{k}" for k in (1, 2, 3)}
            header["chunk_size"] = str(-(-asked["size"] // 3))
        actions = {"upload": {"href": href, "header": header}, "verify": {"href": href}}
        return {**asked, "actions": actions}

    def do_PUT(self) -> None:
        self.server.asked.append(f"PUT {self.path}")
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.removeprefix("/lfs/")
        (self.server.parts if "/" in name else self.server.large)[name] = content
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            name, _, rest = path.removeprefix("/api/models/").partition("/revision/")
            name = name.partition("/tree/")[0]
            files = self.server.files.get(name)
            if files is None:
                return self._json({"error": "Repository not found"}, 404, code="RepoNotFound")
            if not rest and "/tree/" in path:
                return self._json([
                    {"type": "file", "path": file, "size": len(content),
                     "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in files.items()
                ])  # fmt: skip
            return self._json({
                "id": name, "sha": self._commit(name), "private": self.server.private[name],
                "siblings": [{"rfilename": file} for file in files],
            })  # fmt: skip
        if path.startswith("/lfs/"):
            return self._content(self.server.large[path.removeprefix("/lfs/")])
        name, _, rest = path.lstrip("/").partition("/resolve/")
        content = self.server.files.get(name, {}).get(rest.partition("/")[2])
        if content is None:
            return self._json({"error": "Entry not found"}, 404, code="EntryNotFound")
        if not _large(path):
            return self._content(content, {"X-Repo-Commit": self._commit(name)})
        oid = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        for header, value in {
            "Location": f"{self.server.store}/{oid}", "X-Linked-ETag": f'"{oid}"',
            "X-Linked-Size": str(len(content)), "X-Repo-Commit": self._commit(name),
            "Content-Length": "0",
        }.items():  # fmt: skip
            self.send_header(header, value)
        self.end_headers()

    do_HEAD = do_GET

    def _content(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _commit(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.server.files[name].items())).encode()).hexdigest()

    def _json(self, document: Any, status: int = 200, code: str | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _large(path: str) -> bool:
    """As the hub's own ``.gitattributes`` says."""
    return path.endswith(".safetensors")


@contextmanager
def serving(token: str) -> Iterator[Hub]:
    """A hub that runs in a thread until the block ends."""
    with Hub(token) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
