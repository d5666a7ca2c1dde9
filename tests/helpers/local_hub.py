"""A small Hub over HTTP on loopback: what `huggingface_hub` calls to create, push, list and load, kept in memory.

    with LocalHub() as hub:
        subprocess.run(..., env=hub.client_environment(home))
        hub.repos["models/tester/name"].files()["config.json"]

A client is a process of its own (`client_environment`), or this one (`connect`). `hub.cut("PUT /lfs")` breaks the
connection of requests that begin so, and `hub.requests` lists what came.
"""

import base64
import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse

import pytest
import yaml


USER = "tester"
# Tokens: one that may write, one that may only read, one of somebody else.
WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"
_LFS_NAMES = (".safetensors", ".onnx", ".model", ".bin", ".parquet", ".lance", ".flac", ".wav")
_LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "other"}
_REPO = r"(models|datasets|spaces)/([^/]+/[^/]+)"


@dataclass
class Commit:
    """A snapshot: path -> content, and the paths that this commit wrote or removed."""

    message: str
    files: dict[str, bytes]
    touched: list[str] = field(default_factory=list)
    sha: str = field(default_factory=lambda: os.urandom(20).hex())


@dataclass
class Repo:
    """The commits of each branch, oldest first."""

    private: bool
    branches: dict[str, list[Commit]]
    sdk: str | None = None  # of a Space

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.branches[branch][-1].files

    def messages(self, branch: str = "main") -> list[str]:
        return [commit.message for commit in self.branches[branch]]

    def find(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        commits = (commit for branch in self.branches.values() for commit in branch)
        return next((commit for commit in commits if commit.sha == revision), None)


@dataclass
class Cut:
    """Requests that begin with `start` lose their connection, `times` of them, before or after they took effect."""

    start: str
    times: float
    after: bool


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status, self.code = status, code


class LocalHub:
    """The server and its state; a context manager."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}  # large files by SHA-256
        self.requests: list[str] = []
        self.cuts: list[Cut] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def cut(self, start: str, times: float = 1, after: bool = False) -> None:
        self.cuts.append(Cut(start, times, after))

    def client_environment(self, home: Path, token: str | None = WRITER) -> dict[str, str]:
        """Of a process that knows this Hub alone, with caches below `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        hub = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return kept | hub | quiet | ({"HF_TOKEN": token} if token else {})

    def connect(self, monkeypatch: pytest.MonkeyPatch, token: str | None = WRITER) -> None:
        """Let this process, which is offline else, know this Hub alone, and not wait between tries."""
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", self.url)
        address = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # remembers an endpoint
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    # Who may do what

    def readable(self, kind: str, name: str, token: str | None) -> Repo:
        repo = self.repos.get(f"{kind}/{name}")
        if repo is None or (repo.private and token not in (WRITER, READER)):
            raise RefusedError(404 if token else 401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, kind: str, name: str, token: str | None) -> Repo:
        check_write(name.split("/")[0], token)
        return self.readable(kind, name, token)


def check_write(namespace: str, token: str | None) -> None:
    """As the Hub answers: 401 who are you, 403 not you."""
    if token not in (WRITER, READER, STRANGER):
        raise RefusedError(401, "Invalid username or password.")
    if token != WRITER or namespace != USER:
        raise RefusedError(403, f'You don\'t have the rights to create or write to the namespace "{namespace}"')


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def file_info(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}


def is_large(path: str) -> bool:
    return path.endswith(_LFS_NAMES)


def card_metadata(content: str) -> object:
    """What stands between the two lines of dashes at the top."""
    parts = content.split("---\n", 2)
    return yaml.safe_load(parts[1]) if content.startswith("---\n") and len(parts) == 3 else {}


def card_problems(content: str) -> list[str]:
    """What is wrong with the metadata of a card, by the rules that matter here."""
    try:
        data = card_metadata(content)
    except yaml.YAMLError as error:
        return [str(error)]
    if not isinstance(data, dict):
        return ["metadata must be a mapping"]
    problems = [] if isinstance(data.get("library_name", ""), str) else ['"library_name" must be a string']
    # Of a data set, several may hold together.
    if not all(isinstance(name, str) and name in _LICENSES for name in as_list(data.get("license", "mit"))):
        problems.append(f'"license" must be one of {sorted(_LICENSES)}')
    # `no` without quotes is read as False
    codes = [str(code) for code in as_list(data.get("language", [])) if not re.fullmatch("[a-z]{2,3}", str(code))]
    problems += [f'"language" {code!r} must be an ISO 639-1, 639-2 or 639-3 code' for code in codes]
    for name in ("base_model", "datasets", "models"):
        wrong = [value for value in as_list(data.get(name, [])) if not re.fullmatch(r"[\w.-]+/[\w.-]+", value)]
        problems += [f'"{name}" {value!r} must be an id on the Hub' for value in wrong]
    results = [result for model in data.get("model-index", []) for result in model["results"]]
    if not all({"task", "dataset", "metrics"} <= result.keys() for result in results):
        problems.append('"model-index" results need task, dataset and metrics')
    if not all({"name", "type"} <= result.get("dataset", {}).keys() for result in results):
        problems.append('"model-index" datasets need a name and a type')
    return problems


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def handle_any(self) -> None:
        url = urlparse(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        # The one quoted slash of a branch's name (refs/pr/1) stays quoted until its route has taken it apart.
        path, request = url.path.replace("%2F", "\0"), f"{self.command} {unquote(url.path)}"
        with self.hub.lock:
            self.hub.requests.append(request)
            cut = next((cut for cut in self.hub.cuts if cut.times > 0 and request.startswith(cut.start)), None)
            if cut is not None:
                cut.times -= 1
        if cut is not None and not cut.after:
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self.reset()
        self.body = self.read_body()
        authorization = self.headers.get("Authorization", "")
        self.token = authorization.removeprefix("Bearer ") or None
        with self.hub.lock:
            answer = self.answer(path)
        if cut is not None:
            return self.reset()
        self.send(*answer)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def reset(self) -> None:
        """End the connection as a broken line does, with a reset in place of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = open(os.devnull, "wb")  # noqa: SIM115 -- the base class flushes and closes it

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": len(content)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        for method, pattern, route in _ROUTES:
            match = re.fullmatch(pattern, path)
            if self.command in method and match:
                try:
                    found = route(self, *(unquote((part or "").replace("\0", "/")) for part in match.groups()))
                except RefusedError as refused:
                    code = {"X-Error-Code": refused.code} if refused.code else {}
                    headers = {"X-Error-Message": str(refused)} | code
                    return refused.status, json.dumps({"error": str(refused)}).encode(), headers
                return found if isinstance(found, tuple) else (200, json.dumps(found).encode(), {})
        return 404, json.dumps({"error": f"no such route: {self.command} {path}"}).encode(), {}

    # Repositories

    def whoami(self) -> object:
        check_write(USER, self.token)
        return {"type": "user", "name": USER}

    def create_repo(self) -> object:
        wish = json.loads(self.body)
        namespace, kind = wish.get("organization") or USER, f"{wish.get('type', 'model')}s"
        check_write(namespace, self.token)
        name = f"{namespace}/{wish['name']}"
        url = {"url": f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}"}
        if f"{kind}/{name}" in self.hub.repos:
            error = {"error": "You already created this repo"} | url
            return 409, json.dumps(error).encode(), {}
        if (kind == "spaces") != (wish.get("sdk") is not None):
            raise RefusedError(400, "A Space needs its `sdk`, and no other repository has one")
        first = Commit("initial commit", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.hub.repos[f"{kind}/{name}"] = Repo(private, {"main": [first]}, wish.get("sdk"))
        return url

    def repo_info(self, kind: str, name: str, revision: str) -> object:
        repo = self.hub.readable(kind, name, self.token)
        commit = self.find(repo, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        info = {"id": name, "sha": commit.sha, "private": repo.private, "tags": [], "siblings": siblings}
        return info | {"cardData": card_metadata(commit.files.get("README.md", b"").decode())}

    def create_branch(self, kind: str, name: str, branch: str) -> object:
        repo = self.hub.writable(kind, name, self.token)
        if branch in repo.branches:
            raise RefusedError(409, "Reference already exists")
        repo.branches[branch] = list(repo.branches["main"])
        return {}

    def tree(self, kind: str, name: str, revision: str, folder: str) -> object:
        commit = self.find(self.hub.readable(kind, name, self.token), revision)
        start = f"{folder}/" if folder else ""
        found = {path: content for path, content in commit.files.items() if path.startswith(start)}
        if folder and not found:
            raise RefusedError(404, "no such folder", "EntryNotFound")
        folders: dict[str, object] = {}
        if self.query.get("recursive", "true").lower() == "false":
            inner = {path: path[len(start) :].partition("/")[0] for path in found if "/" in path[len(start) :]}
            for name_ in sorted(set(inner.values())):
                folders[name_] = {"type": "directory", "path": f"{start}{name_}", "oid": git_oid(name_.encode())}
            found = {path: content for path, content in found.items() if path not in inner}
        return [*folders.values(), *map(file_info, sorted(found), map(found.get, sorted(found)))]

    def paths_info(self, kind: str, name: str, revision: str) -> object:
        commit = self.find(self.hub.readable(kind, name, self.token), revision)
        wanted = parse_qs(self.body.decode()).get("paths", []) if b"paths=" in self.body else None
        wanted = json.loads(self.body)["paths"] if wanted is None else wanted
        return [file_info(path, commit.files[path]) for path in wanted if path in commit.files]

    def download(self, kind: str, name: str, revision: str, path: str) -> object:
        commit = self.find(self.hub.readable(kind or "models", name, self.token), revision)
        if path not in commit.files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit.sha}
        headers["Content-Type"] = "application/octet-stream"
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin, end = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            return 206, content[begin : end + 1], headers
        return 200, content, headers

    @staticmethod
    def find(repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise RefusedError(404, "Invalid rev id", "RevisionNotFound")
        return commit

    # Uploads

    def validate_card(self) -> object:
        problems = card_problems(json.loads(self.body)["content"])
        answer = {"errors": [{"message": problem} for problem in problems], "warnings": []}
        return (400 if problems else 200), json.dumps(answer).encode(), {}

    def preupload(self, kind: str, name: str, revision: str) -> object:
        files = self.find(self.hub.writable(kind, name, self.token), revision).files
        answers = []
        for file in json.loads(self.body)["files"]:
            path, content = file["path"], files.get(file["path"])
            mode = "lfs" if is_large(path) else "regular"
            oid = hashlib.sha256(content or b"").hexdigest() if mode == "lfs" else git_oid(content or b"")
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": content and oid})
        return {"files": answers}

    def large_files(self, kind: str, name: str) -> object:
        self.hub.writable(kind or "models", name, self.token)
        answers = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if wanted["oid"] not in self.hub.objects:
                address = f"{self.hub.url}/lfs/{wanted['oid']}"
                answer["actions"] = {"upload": {"href": address}, "verify": {"href": f"{address}/verify"}}
            answers.append(answer)
        return {"transfer": "basic", "objects": answers}

    def receive_large_file(self, oid: str) -> object:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, "The content is not that of the SHA-256")
        self.hub.objects[oid] = self.body
        return {}

    def verify_large_file(self, oid: str) -> object:
        if oid not in self.hub.objects:
            raise RefusedError(404, "No such object")
        return {}

    def commit(self, kind: str, name: str, branch: str) -> object:
        repo = self.hub.writable(kind, name, self.token)
        files = dict(self.find(repo, branch).files)
        header, *changes = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                files.pop(value["path"], None)
        commit = Commit(header["value"]["summary"], files, [change["value"]["path"] for change in changes])
        answer = {"success": True, "commitOid": commit.sha, "commitUrl": f"{self.hub.url}/{name}/commit/{commit.sha}"}
        if self.query.get("create_pr"):
            number = sum(known.startswith("refs/pr/") for known in repo.branches) + 1
            repo.branches[f"refs/pr/{number}"] = [*repo.branches[branch], commit]
            return answer | {"pullRequestUrl": f"{self.hub.url}/{name}/discussions/{number}"}
        repo.branches[branch].append(commit)
        return answer


_ROUTES: list[tuple[str, str, Callable]] = [
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/validate-yaml", _Handler.validate_card),
    ("POST", rf"/api/{_REPO}/preupload/([^/]+)", _Handler.preupload),
    ("POST", rf"/api/{_REPO}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/api/{_REPO}/branch/([^/]+)", _Handler.create_branch),
    ("GET", rf"/api/{_REPO}/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    ("POST", rf"/api/{_REPO}/paths-info/([^/]+)", _Handler.paths_info),
    ("GET", rf"/api/{_REPO}(?:/revision/([^/]+))?", _Handler.repo_info),
    ("POST", r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.large_files),
    ("PUT", r"/lfs/([0-9a-f]{64})", _Handler.receive_large_file),
    ("POST", r"/lfs/([0-9a-f]{64})/verify", _Handler.verify_large_file),
    ("GET HEAD", r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler.download),
]
