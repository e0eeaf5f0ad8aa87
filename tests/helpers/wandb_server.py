"""A stand-in for the W&B server on loopback: the one part that cannot be real in a test.

It speaks enough of the protocol for the real client to upload runs, save views, and read runs back.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StoredRun:
    """What the server knows of one run."""

    name: str
    group: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    state: str = "running"


class WandbServer:
    """Runs by name, views as they were saved; one project."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.views: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                with server.lock:
                    self.reply(server.handle(self.path, body))

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionResetError:  # the client has all it wants
                    self.close_connection = True

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.reply({})

            def do_GET(self) -> None:
                self.reply({})

            def reply(self, value: dict[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def forget(self) -> None:
        """Start over with an empty project."""
        self.runs.clear()
        self.views.clear()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def handle(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            request = json.loads(body)
            return {"data": self.answer(request["query"], request.get("variables") or {})}
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
        if stream:
            self.receive(self.runs[stream[1]], json.loads(body))
        return {}

    def receive(self, run: StoredRun, stream: dict[str, Any]) -> None:
        """Rows at an offset, the latest summary, and whether the run is over."""
        for name, part in (stream.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]]
            if name == "wandb-history.jsonl":
                run.history[part["offset"] : part["offset"] + len(rows)] = rows
            elif name == "wandb-summary.json":
                run.summary = rows[-1]
        if stream.get("complete"):
            run.state = "finished" if stream.get("exitcode") == 0 else "failed"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        match operation[1] if operation else "":
            case "Viewer":
                return {"viewer": VIEWER}
            case "GetDefaultEntity":
                return {"viewer": {"id": "1", "entity": "e"}}
            case "RunResumeStatus":
                return {"model": self.resume_status(variables["name"])}
            case "UpsertBucket":
                return {"upsertBucket": self.upsert(variables)}
            case "CreateRunFiles":
                names = variables["files"]
                files = [{"name": n, "uploadUrl": f"{self.url}/upload/{n}"} for n in names]
                return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
            case "GetProjects":
                project = {"__typename": "Project", "id": "1", "name": "p", "entityName": "e",
                           "createdAt": "", "isBenchmark": False, "user": None}  # fmt: skip
                page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
                return {"models": {"pageInfo": page, "edges": [{"node": project}]}}
            case name if "UpsertView" in name or "upsertView" in query:
                self.views.append(variables)
                view = {"id": "Vmlldzox", "name": "view", "type": "", "displayName": "",
                        "updatedAt": "2026-01-01T00:00:00",
                        "description": "", "spec": variables.get("spec") or "{}",
                        "user": {"id": "1"}, "project": {}}  # fmt: skip
                return {"upsertView": {"view": view, "inserted": True}}
            case _:
                return self.read(query, variables)

    def upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(variables["name"], StoredRun(variables["name"]))
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        run.group = variables.get("groupName") or run.group
        bucket = {**self.node(run), "project": {"id": "1", "name": "p", "entity": ENTITY}}
        return {"bucket": bucket, "inserted": not run.history}

    def resume_status(self, name: str) -> dict[str, Any]:
        run = self.runs.get(name)
        bucket = None
        if run is not None and run.history:
            tail = json.dumps([json.dumps(run.history[-1])])
            bucket = {**self.node(run), "logLineCount": 0, "historyTail": tail,
                      "eventsTail": "[]", "wandbConfig": "{}"}  # fmt: skip
        return {"id": "1", "name": "p", "entity": ENTITY, "bucket": bucket}

    def read(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What `wandb.Api()` asks for runs and their histories."""
        name = variables.get("run") or variables.get("name") or variables.get("runName") or ""
        run = self.runs.get(name, StoredRun(name))
        project: dict[str, Any] = {"internalId": "1", "id": "1", "readOnly": False}
        if "parquetHistory" in query:
            project["run"] = {"parquetHistory": {"parquetUrls": [], "liveData": []}}
        elif "sampledHistory" in query:
            spec = json.loads(variables["spec"])
            low, high = spec.get("minStep", 0), spec.get("maxStep", 10**9)
            rows = [r for r in run.history if low <= r["_step"] < high]
            project["run"] = {"sampledHistory": [rows]}
        elif "history(" in query and "runs(" not in query:
            low, high = variables.get("minStep", 0), variables.get("maxStep", 10**9)
            page = [json.dumps(r) for r in run.history if low <= r["_step"] < high]
            project["run"] = {"history": page}
        elif "historyKeys" in query and "runs(" not in query:
            project["run"] = self.node(run)
        else:
            edges = [{"node": self.node(r), "cursor": r.name} for r in self.runs.values()]
            page_info = {"endCursor": None, "hasNextPage": False}
            project |= {
                "runCount": len(edges),
                "runs": {"totalCount": len(edges), "edges": edges, "pageInfo": page_info},
            }
        return {"project": project}

    def node(self, run: StoredRun) -> dict[str, Any]:
        last_step = max((row["_step"] for row in run.history), default=0)
        return {
            "id": f"id-{run.name}", "name": run.name, "displayName": run.name, "state": run.state,
            "tags": [], "group": run.group, "jobType": "run", "sweepName": None, "projectId": "1",
            "config": json.dumps(run.config), "commit": None, "systemMetrics": "{}",
            "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.history),
            "historyKeys": {"keys": {}, "lastStep": last_step}, "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00", "notes": "", "description": "",
            "readOnly": False, "eventsLineCount": 0, "user": {"name": "u", "username": "u"},
        }  # fmt: skip


ENTITY = {"id": "1", "name": "e"}
VIEWER = {"id": "1", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []},
          "admin": False, "apiKeys": {"edges": []}, "email": "", "name": "u"}  # fmt: skip
