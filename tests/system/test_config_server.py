"""Three config-servers side by side on one real etcd: they agree, lose nothing when one is killed, and say it when etcd is
away."""

import concurrent.futures
import signal

from peers import ConfigServer, etcd, wait_until

CONFIG = {"device_type": "generic", "interval": 1, "metrics": {}}
WORKERS, CHANGES = 9, 8


def agree(servers):
    path = "/config/edge-01"
    assert servers[0].ask("PUT", path, CONFIG)[1]["status"] == "registered"
    tags = set()
    for server in servers:
        status, config, head = server.ask("GET", path)
        assert (status, config) == (200, CONFIG), config
        tags.add(head["ETag"])
    assert len(tags) == 1, tags
    (tag,) = tags
    assert servers[1].ask("POST", path, CONFIG)[0] == 409
    assert servers[1].ask("PUT", path, {**CONFIG, "interval": 2}, {"If-Match": tag})[0] == 200
    assert servers[2].ask("PUT", path, {**CONFIG, "interval": 3}, {"If-Match": tag})[0] == 412
    assert servers[2].ask("GET", path, headers={"If-None-Match": tag})[1]["interval"] == 2
    assert servers[2].ask("DELETE", path)[0] == 200
    assert servers[0].ask("GET", path)[0] == 404


def one_creates(servers):
    """Of many that create one device at once, one does."""
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        create = lambda n: servers[n % 3].ask("POST", "/config/edge-02", {**CONFIG, "interval": n + 1})[0]
        statuses = sorted(pool.map(create, range(12)))
    assert statuses == [201] + 11 * [409], statuses


def change(server, name, conditionally):
    """Sets one metric; whether by a patch or by reading, changing and writing back."""
    path = "/config/edge-03"
    if not conditionally:
        status, answer, _ = server.ask("PATCH", path, {"metrics": {name: True}})
        assert status == 200, answer
        return
    for _ in range(500):
        _, config, head = server.ask("GET", path)
        config["metrics"][name] = True
        status, answer, _ = server.ask("PUT", path, config, {"If-Match": head["ETag"]})
        if status == 200:
            return
        assert status == 412, answer
    raise AssertionError(f"{name}: never the first")


def nothing_is_lost(servers):
    """Changes by all servers at once, one of which is killed midway: those that it answered are there."""
    servers[0].ask("PUT", "/config/edge-03", CONFIG)
    done = []

    def work(worker):
        for n in range(CHANGES):
            name = f"w{worker}_{n}"
            server = servers[worker % 3]
            try:
                change(server, name, conditionally=worker >= 6)
            except OSError:
                # Its server is gone: the board turns to another.
                assert server is servers[2], "a server that was not killed does not answer"
                change(servers[0], name, conditionally=worker >= 6)
            done.append(name)
            if len(done) == WORKERS * CHANGES // 3:
                servers[2].kill()

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for outcome in [pool.submit(work, worker) for worker in range(WORKERS)]:
            outcome.result()
    assert servers[2].process.poll() is not None
    for server in servers[:2]:
        metrics = server.ask("GET", "/config/edge-03")[1]["metrics"]
        assert sorted(metrics) == sorted(done) and len(done) == WORKERS * CHANGES, metrics
    servers[2].start()
    assert servers[2].ask("GET", "/config/edge-03")[1]["metrics"] == metrics


def boards_are_known_to_all(servers):
    """A board asks one server; the others know where it is too."""
    board = {"Exporter-Version": "0.1.0", "Exporter-Ports": "31000 31001"}
    servers[0].ask("PUT", "/config/edge-04", {**CONFIG, "port": 9100}, board)
    for server in servers:
        groups = {g["labels"]["__meta_edge_device_id"]: g for g in server.ask("GET", "/sd")[1]}
        assert groups["edge-04"]["targets"] == ["127.0.0.1:31000"], groups
        status, answer, _ = server.ask("POST", "/devices/edge-04/reload")
        assert status == 503 and "31001" in answer["error"], answer


def many_devices(servers):
    """More than one page of etcd's keys."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        put = lambda n: servers[n % 3].ask("PUT", f"/config/many-{n:03}", CONFIG)[0]
        assert set(pool.map(put, range(250))) == {200}
    devices = servers[1].ask("GET", "/devices")[1]["devices"]
    names = [device["device_id"] for device in devices if device["device_id"].startswith("many-")]
    assert names == [f"many-{n:03}" for n in range(250)], len(names)


def groups_are_known_to_all(servers):
    """A change of a group by one server counts from the next request to any other on."""
    path = "/config/edge-05"
    servers[0].ask("PUT", path, {"device_type": "x86"})
    alone = servers[1].ask("GET", path)[2]["ETag"]
    for n in range(20):
        # Before it too, so that the others have the groups from before the change.
        tags = {server.ask("GET", path)[2]["ETag"] for server in servers}
        assert len(tags) == 1, tags
        group = {"members": {"name": "edge-05"}, "labels": {"round": str(n)}, "config": {"interval": n + 1}}
        status, answer, _ = servers[n % 3].ask("PUT", "/groups/five", group)
        assert (status, answer["changed"]) == (200, 1), answer
        for server in servers:
            assert server.ask("GET", path)[1] == {"interval": n + 1, "device_type": "x86"}, n
        labels = {g["labels"]["__meta_edge_device_id"]: g["labels"] for g in servers[(n + 1) % 3].ask("GET", "/sd")[1]}
        assert labels["edge-05"]["round"] == str(n) and "round" not in labels["edge-04"], labels
    tag = servers[0].ask("GET", "/groups/five")[2]["ETag"]
    assert servers[1].ask("PATCH", "/groups/five", {"order": 1}, {"If-Match": tag})[0] == 200
    assert servers[2].ask("PATCH", "/groups/five", {"order": 2}, {"If-Match": tag})[0] == 412
    # A later group that is removed leaves the number and the newest key of an earlier moment.
    servers[0].ask("PUT", "/groups/later", {"config": {"port": 9300}})
    assert servers[1].ask("GET", path)[1]["port"] == 9300
    assert servers[2].ask("DELETE", "/groups/later")[0] == 200
    assert "port" not in servers[1].ask("GET", path)[1]
    assert servers[0].ask("DELETE", "/groups/five")[0] == 200
    for server in servers:
        _, config, head = server.ask("GET", path)
        assert (config, head["ETag"]) == ({"device_type": "x86"}, alone), config
        assert server.ask("GET", "/groups")[1] == {"groups": [], "total": 0}


def etcd_away(servers, process):
    """Stopped, it does not answer at all; the servers say so in bounded time, and go on when it is back."""
    process.send_signal(signal.SIGSTOP)
    try:
        for method, path in [("GET", "/config/edge-03"), ("PUT", "/config/edge-03"), ("GET", "/sd"), ("GET", "/health")]:
            status, answer, head = servers[0].ask(method, path, CONFIG if method == "PUT" else None)
            assert status == 503, (method, path, status, answer)
            assert "etcd://" in answer["message"] and "does not answer" in answer["message"], answer
        status, text, _ = servers[0].ask("GET", "/metrics")
        assert status == 200 and "\nconfig_server_store_up 0\n" in text, text
    finally:
        process.send_signal(signal.SIGCONT)
    wait_until("etcd is back", lambda: servers[0].ask("GET", "/health")[0] == 200)
    assert servers[0].ask("GET", "/config/edge-03")[0] == 200


def main():
    with etcd() as (address, process):
        store = f"etcd://{address}/fleet"
        with ConfigServer(store) as a, ConfigServer(store) as b, ConfigServer(store) as c:
            servers = [a, b, c]
            agree(servers)
            one_creates(servers)
            nothing_is_lost(servers)
            boards_are_known_to_all(servers)
            groups_are_known_to_all(servers)
            many_devices(servers)
            etcd_away(servers, process)
    print(f"{WORKERS * CHANGES} changes by three servers, one of them killed: all there")


main()
