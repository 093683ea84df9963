"""A small Hub on the loopback: the few calls that pushing and pulling make, and some ways of going wrong.

The owner of a repository says how it behaves: `html/x` answers with pages, `hangup/x` breaks off, and so on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

STATUS = {"unknown": 401, "forbidden": 403, "missing": 404, "busy": 409, "limited": 429, "odd": 418}
"""Owners whose repositories are all refused."""
PAGE = b"<!DOCTYPE html><html><body>Log in to this network</body></html>"


@dataclass
class Repo:
    """Branches of files by name, each at a commit, and large files by digest."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str) -> str:
        files = self.branches[branch]
        content = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
        commit = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[commit] = dict(files)
        return commit


class Hub(ThreadingHTTPServer):
    """The server; what it holds, and what it was asked, is there to be looked at."""

    daemon_threads = True

    def __init__(self, *, lfs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, authorization
        self.sent = 0  # bytes of endless answers
        self.elsewhere = ""  # another host's address
        self.lfs = lfs

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Hub]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def begin(self) -> tuple[list[str], bytes]:
        """Note what is asked and return the path's parts and the body."""
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")], body

    def refused(self, owner: str) -> bool:
        if owner in STATUS:
            code = {"X-Error-Code": "RepoNotFound"} if owner == "missing" else {}
            echo = f"you came as {self.headers.get('Authorization')}"  # as a careless server would
            self.answer(STATUS[owner], {"error": echo}, **code)
        elif owner == "html":
            self.answer(200, PAGE, Content_Type="text/html")
        return owner in STATUS or owner == "html"

    # ---- what is written

    def do_POST(self) -> None:
        parts, body = self.begin()
        match parts:
            case ["api", "repos", "create"]:
                self.create(json.loads(body))
            case ["api", "validate-yaml"]:
                self.answer(200, {"errors": [], "warnings": []})
            case ["api", "models", owner, name, "preupload", _]:
                if not self.refused(owner):
                    self.preupload(json.loads(body)["files"])
            case ["api", "models", owner, name, "branch", branch]:
                repo = self.server.repos[f"{owner}/{name}"]
                repo.branches.setdefault(branch, dict(repo.branches["main"]))
                self.answer(200, {})
            case ["api", "models", owner, name, "commit", branch]:
                self.commit(f"{owner}/{name}", branch, body)
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self.batch(json.loads(body)["objects"])
            case _:
                self.answer(404, {"error": "no such call"})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if self.refused(name.partition("/")[0]):
            return
        there = name in self.server.repos
        repo = self.server.repos.setdefault(name, Repo(asked.get("private") or asked.get("visibility") == "private"))
        repo.commit("main")
        self.answer(409 if there else 200, {"url": f"{self.server.url}/{name}"})

    def preupload(self, files: list[dict[str, Any]]) -> None:
        def mode(path: str) -> str:
            return "lfs" if self.server.lfs and path.endswith(".safetensors") else "regular"

        found = [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in files]
        self.answer(200, {"files": found})

    def commit(self, name: str, branch: str, body: bytes) -> None:
        repo = self.server.repos[name]
        files = dict(repo.branches[branch])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repo.messages.append(value["summary"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        repo.branches[branch] = files
        commit = repo.commit(branch)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self.answer(200, {"commitOid": commit, "commitUrl": url})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        made = [{**o, "actions": {"upload": {"href": f"{self.server.url}/large/{o['oid']}"}}} for o in objects]
        self.answer(200, {"transfer": "basic", "objects": made}, Content_Type="application/json")

    def do_PUT(self) -> None:
        parts, body = self.begin()
        assert hashlib.sha256(body).hexdigest() == parts[-1]
        self.server.large[parts[-1]] = body
        self.answer(200)

    # ---- what is read

    def do_GET(self) -> None:
        match self.begin()[0]:
            case [owner, name, "resolve", revision, *path]:
                if not self.refused(owner):
                    self.resolve(owner, f"{owner}/{name}", revision, "/".join(path))
            case ["large", digest]:
                self.answer(200, self.server.large[digest])
            case ["api", "models", owner, name, "revision", revision]:
                repo = self.server.repos[f"{owner}/{name}"]
                commit = repo.commit(revision) if revision in repo.branches else revision
                self.answer(200, {"id": f"{owner}/{name}", "sha": commit, "siblings": []})
            case ["api", "models", owner, name, "tree", revision, *_]:
                files = self.server.repos[f"{owner}/{name}"].commits[revision]
                self.answer(200, [{"type": "file", "path": path, "size": len(files[path])} for path in files])
            case _:
                self.answer(404, {"error": "no such call"})

    do_HEAD = do_GET

    def resolve(self, owner: str, name: str, revision: str, path: str) -> None:
        repo = self.server.repos.get(name, Repo())
        commit = repo.commit(revision) if revision in repo.branches else revision
        if commit not in repo.commits:
            self.answer(404, {}, X_Error_Code="RevisionNotFound")
            return
        data = repo.commits[commit].get(path)
        if data is None:
            self.answer(404, {}, X_Error_Code="EntryNotFound")
            return
        about = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if owner == "hangup":
            self.answer(200, data[: len(data) // 2], **{**about, "Content-Length": str(len(data))})
            self.close_connection = True
        elif owner == "huge":
            self.endless(about)
        elif owner == "elsewhere":
            self.answer(302, b"", **about, Location=f"{self.server.elsewhere}{self.path}")
        elif owner == "dead":
            self.answer(302, b"", **about, Location="http://127.0.0.1:9/")
        elif owner == "nocommit":
            self.answer(200, data)
        elif self.server.lfs and path.endswith(".safetensors"):
            digest = hashlib.sha256(data).hexdigest()
            self.answer(302, b"", **about, Location=f"{self.server.elsewhere or self.server.url}/large/{digest}")
        else:
            self.answer(200, data, **about)

    def endless(self, about: dict[str, str]) -> None:
        """Send a gigabyte without saying so, as long as someone listens."""
        self.send_response(200)
        for name, value in about.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(1 << 14):
                self.wfile.write(b" " * (1 << 16))
                self.server.sent += 1 << 16
        except OSError:
            pass
