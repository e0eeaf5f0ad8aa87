"""W&B through its real client against a loopback GraphQL server: no network, no account."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

wandb = pytest.importorskip("wandb")

from analysis.tables.table import TableError  # noqa: E402
from analysis.tables.wandb_source import load_wandb  # noqa: E402

HISTORY = {
    "aaa": [{"_step": i, "val/loss": 4.0 - 0.1 * i, "tokens": 1000 * i} for i in range(1, 6)],
    "bbb": [{"_step": i, "val/loss": 3.5 - 0.1 * i, "tokens": 2000 * i} for i in range(1, 8)],
    "ccc": [],
}


def run_node(name, state="finished"):
    return {
        "id": f"gid-{name}", "name": name, "displayName": name, "state": state, "tags": [],
        "group": "g", "jobType": None, "sweepName": None, "projectId": "1",
        "config": json.dumps({"n_params_total": {"value": 1000}}), "commit": None,
        "systemMetrics": "{}", "summaryMetrics": json.dumps({"val/accuracy": 0.5}),
        "historyLineCount": len(HISTORY[name]), "historyKeys": {"keys": {}, "lastStep": 9},
        "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00",
        "notes": "", "description": "", "readOnly": False, "eventsLineCount": 0,
        "user": {"name": "u", "username": "u"},
    }  # fmt: skip


def answer(query, variables):
    if "Viewer" in query or "viewer" in query:
        return {"viewer": {"id": "1", "entity": "e", "username": "u", "flags": "{}",
                           "teams": {"edges": []}, "admin": False, "apiKeys": {"edges": []},
                           "email": "", "name": "u"}}  # fmt: skip
    if "ServerInfo" in query or "serverInfo" in query or "__type" in query:
        return {"serverInfo": None, "__type": None, "QueryType": None, "ServerInfoType": None}
    name = variables.get("run") or variables.get("name") or variables.get("runName") or ""
    rows = HISTORY.get(name, [])
    if "parquetHistory" in query:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}
    if "sampledHistory" in query:
        return {"project": {"run": {"sampledHistory": [rows]}}}
    if "historyKeys" in query and "runs(" not in query:
        return {"project": {"run": {**run_node(name), "historyKeys": {"keys": {}, "lastStep": 9}}}}
    if "history" in query and "runs(" not in query:
        low, high = variables.get("minStep", 0), variables.get("maxStep", 10**9)
        page = [json.dumps(r) for r in rows if low <= r["_step"] < high]
        return {"project": {"run": {"history": page}}}
    edges = [{"node": run_node(n), "cursor": n} for n in HISTORY]
    return {
        "project": {
            "internalId": "1",
            "runCount": 3,
            "readOnly": False,
            "runs": {
                "totalCount": 3,
                "edges": edges,
                "pageInfo": {"endCursor": None, "hasNextPage": False},
            },
        }
    }


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = answer(body.get("query", ""), body.get("variables") or {})
        text = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    yield url
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_last_values_of_every_run_are_collected(server):
    table = load_wandb("e/p", ["val/loss", "tokens"], base_url=server)
    frame = table.frame.set_index("run_id")
    assert frame.loc["aaa", "val_loss"] == pytest.approx(3.5)
    assert frame.loc["bbb", "tokens"] == 14000
    assert frame.loc["aaa", "n_params_total"] == 1000
    assert frame.loc["aaa", "val_accuracy"] == 0.5
    assert [d.rows for d in table.dropped] == [("ccc",)]


def test_learning_curves_keep_their_run_as_cluster(server):
    table = load_wandb("e/p", ["val/loss", "tokens"], every=True, base_url=server)
    assert len(table) == 12
    assert set(table.frame["trunk_id"]) == {"aaa", "bbb"}


def test_columns_follow_the_naming_rule():
    from analysis.tables.wandb_source import column

    assert column("val/loss") == "val_loss"


def test_missing_wandb_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TableError, match="pip install wandb"):
        load_wandb("e/p", ["val/loss"])


def test_a_project_is_a_table_on_the_command_line(server, capsys):
    from analysis.__main__ import main

    columns = ["--columns", "run_id,val_loss,tokens"]
    assert main(["table", "wandb://e/p", "--keys", "val/loss,tokens", *columns]) == 0
    out = capsys.readouterr().out
    assert "14000" in out
    assert "ccc" in out
