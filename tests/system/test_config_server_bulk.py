"""Changes of many boards by two config-servers on one real etcd: all boards or none, whichever server is killed in the middle of it."""

import base64
import concurrent.futures
import json
import threading
import urllib.request

from peers import ConfigServer, etcd, wait_until

BOARDS = 300
YAML = {"Content-Type": "application/yaml"}


def fleet(count):
    boards = "".join(f"  edge-{n:04}:\n    device_type: generic   # of people\n    interval: 1\n" for n in range(count))
    return "groups:\n  rack:\n    members: {devices: [edge-0000]}\n    labels: {rack: '3'}\ndevices:\n" + boards


def send(server, method, path, text, headers):
    request = urllib.request.Request(server.url + path, data=text.encode(), headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def export(server):
    status, text, _ = server.ask("GET", "/export")
    assert status == 200, text
    return text


def intervals(server):
    lines = export(server).splitlines()
    return {line.strip() for line in lines if line.strip().startswith("interval:")}


def unfinished(address):
    key = base64.b64encode(b"/fleet/unfinished").decode()
    request = urllib.request.Request(f"http://{address}/v3/kv/range", json.dumps({"key": key}).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        pairs = json.loads(answer.read()).get("kvs")
    return json.loads(base64.b64decode(pairs[0]["value"])) if pairs else None


def together(a, b):
    """More documents than fit in one transaction of etcd."""
    status, answer = send(a, "PUT", "/import", fleet(BOARDS), YAML)
    assert status == 200 and answer["devices"]["created"] == BOARDS, answer
    imported = answer["change"]
    status, answer, _ = b.ask("PATCH", "/config?selector=label.rack=3", {"interval": 2})
    assert (status, answer["changed"]) == (200, ["edge-0000"]), answer
    status, answer, _ = b.ask("PATCH", "/config?selector=name=edge-*", {"interval": 3})
    assert (status, answer["changed_total"]) == (200, BOARDS), answer
    assert intervals(a) == {"interval: 3"}
    status, answer, _ = a.ask("POST", f"/changes/{answer['change']}/undo")
    assert (status, answer["status"]) == (200, "undone"), answer
    assert intervals(b) == {"interval: 1", "interval: 2"}
    status, answer, _ = b.ask("GET", f"/changes/{imported}?from=299")
    assert [d["id"] for d in answer["documents"]] == ["edge-0298", "edge-0299"], answer
    actions = [record["action"] for record in a.ask("GET", "/changes")[1]["changes"]]
    assert actions == ["undo", "bulk", "bulk", "import"], actions
    # A record of several parts is removed whole, by whichever server.
    assert b.ask("DELETE", f"/changes/{imported}")[0] == 204
    assert [server.ask(method, f"/changes/{imported}")[0] for server in (a, b) for method in ("GET", "DELETE")] == [404] * 4
    assert [record["action"] for record in a.ask("GET", "/changes")[1]["changes"]] == actions[:3]


def at_the_same_time(a, b):
    """Two servers change all boards: each change is whole, and one that cannot be made is refused."""
    def change(n):
        return (a, b)[n % 2].ask("PATCH", "/config?selector=name=edge-*", {"interval": 10 + n})[:2]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(change, range(4)))
    statuses = {status for status, _ in answers}
    assert 200 in statuses and statuses <= {200, 503}, answers
    assert len(intervals(a)) == 1, intervals(a)
    assert "unfinished" not in a.ask("GET", "/changes")[1]


def killed(address, a, b):
    """A server that dies in the middle of a change: another one puts the boards back."""
    for round in range(20):
        before = intervals(b)
        thread = threading.Thread(target=attempt, args=(a, 100 + round))
        thread.start()
        # The key comes first, then a part of the record, then a hundred documents at a time.
        wait_until("the change is half made", lambda: (unfinished(address) or {}).get("step", 0) > 2 or not thread.is_alive())
        a.kill()
        thread.join()
        left = unfinished(address)
        half = intervals(b)
        if left is None:
            a.start()
            continue
        assert b.ask("GET", "/changes")[1]["unfinished"][0]["id"] == left["head"]["id"]
        status, answer, _ = b.ask("PATCH", "/config?selector=name=edge-*", {"interval": 50})
        assert status == 503 and left["head"]["id"] in answer["message"], answer
        # A single board can be changed meanwhile, and keeps that.
        assert b.ask("PATCH", "/config/edge-0007", {"port": 9300})[0] == 200
        # By the other server, which need not start anew: half a minute after the last sign of life at the earliest.
        wait_until("the boards are put back", lambda: unfinished(address) is None, 130)
        a.start()
        if len(half) == 2:
            assert intervals(b) - before <= half - before, (before, half, intervals(b))
            assert "port: 9300" in export(b)
            return
    raise AssertionError("no kill came in the middle of a change")


def attempt(server, interval):
    try:
        server.ask("PATCH", "/config?selector=name=edge-*", {"interval": interval})
    except OSError:
        pass


def elsewhere(address, server):
    text = export(server)
    with ConfigServer(f"etcd://{address}/elsewhere") as other:
        status, answer = send(other, "PUT", "/import?force", text, YAML)
        assert status == 200, answer
        assert export(other) == text


def small_transactions():
    """An etcd that takes less in a transaction than others."""
    with etcd(options=["--max-txn-ops=9"]) as (address, _), ConfigServer(f"etcd://{address}/fleet") as server:
        status, answer = send(server, "PUT", "/import", fleet(50), YAML)
        assert status == 200, answer
        status, answer, _ = server.ask("PATCH", "/config?selector=*", {"interval": 2})
        assert (status, answer["changed_total"]) == (200, 50), answer
        assert intervals(server) == {"interval: 2"}
        status, answer = send(server, "PUT", "/import?prune", "devices: {}\n", YAML)
        assert status == 200 and answer["devices"]["deleted"] == 50, answer


def main():
    with etcd() as (address, _):
        store = f"etcd://{address}/fleet"
        with ConfigServer(store) as a, ConfigServer(store) as b:
            together(a, b)
            at_the_same_time(a, b)
            killed(address, a, b)
            elsewhere(address, b)
    small_transactions()
    print(f"{BOARDS} boards on etcd: changed together, put back after a kill, exported and imported")


main()
