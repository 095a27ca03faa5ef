"""Forty boards, the central server and Prometheus, all real. Once with a directory as the store, once with three servers on
one etcd. Boards come up on ports that nobody chose; servers are killed; nothing is lost, and nothing restarts that need not."""

import contextlib
import json
import subprocess
import sys
import time

from peers import ConfigServer, etcd, free_port, get, query, running, temporary, wait_until
from polling_boards import Board, fixture, stop

BOARDS = 40
# For so many seconds a server is away.
AWAY = 8
# The one that comes up while the server is away.
LATE = BOARDS
NEEDED = f"count(up == 1) == {BOARDS}"


@contextlib.contextmanager
def prometheus(servers):
    with temporary() as directory:
        discovery = [{"url": f"{server}/sd", "refresh_interval": "1s"} for server in servers]
        scrape = {"job_name": "edge-power", "honor_labels": True, "http_sd_configs": discovery}
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
        (directory / "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        # It complains of servers that are away, as it should.
        command += [f"--web.listen-address={address}", "--log.level=error"]
        with running(command, stderr=subprocess.DEVNULL):
            wait_until("Prometheus is ready", lambda: get(f"http://{address}/-/ready"))
            yield f"http://{address}"


def switch(board, name, on):
    wait_until(f"{board.name} knows {name}", lambda: name in board.ask("/metrics/list")["metrics"])
    assert board.ask("/metrics/enable", {name: on})["status"] == "success"


def scenario(servers, tree, directory):
    urls = [server.url for server in servers]
    boards = [Board(number, directory, tree, urls) for number in range(1, BOARDS + 1)]
    late = boards[LATE - 1]
    try:
        with prometheus(urls) as url:
            for board in boards[:-1]:
                board.start()
            wait_until("39 boards are scraped", lambda: query(url, f"count(up == 1) == {BOARDS - 1}"))
            names = {series["metric"]["hostname"] for series in query(url, "up == 1")}
            assert names == {board.name for board in boards[:-1]}, names
            labels = query(url, 'power_watts{hostname="edge-07"}')[0]["metric"]
            assert labels["device_type"] == "generic" and "exported_hostname" not in labels, labels
            begin = time.time()

            # A change on the server reaches one board while it runs, and no other.
            seven = boards[6]
            config = servers[0].ask("GET", "/config/edge-07")[1]
            answer = servers[0].ask("PUT", "/config/edge-07", {**config, "interval": 0.2})[1]
            assert answer["reload_triggered"], answer
            wait_until("the change is in force", lambda: seven.ask("/config")["interval"] == 0.2)

            # The server goes without a word. Boards are switched meanwhile, and one comes up.
            servers[-1].kill()
            for board in boards[9:19]:
                switch(board, "voltage_volts", True)
            switch(boards[9], "power_watts", False)
            late.start()
            time.sleep(AWAY)
            wait_until("the late board runs", lambda: late.ask("/health")["version"])
            if len(servers) == 1:
                wait_until("it fell back", lambda: "fallback" in late.log())
                assert all(b.ask("/health")["config_server"]["unsent"] for b in boards[9:19])
                # Prometheus goes on with the boards that it knows.
                assert query(url, f"count(up == 1) == {BOARDS - 1}"), query(url, "up != 1")
            else:
                wait_until("it is scraped, by way of another server", lambda: query(url, NEEDED))
            servers[-1].start()

            wait_until("all boards are scraped", lambda: query(url, NEEDED))
            for board in boards[9:19]:
                path = f"/config/{board.name}"
                arrived = lambda: servers[-1].ask("GET", path)[1]["metrics"].get("voltage_volts") is True
                wait_until(f"what was switched on {board.name} arrives", arrived)
                wait_until("nothing is left to tell", lambda: board.ask("/health")["config_server"]["unsent"] == 0)
            assert servers[-1].ask("GET", "/config/edge-10")[1]["metrics"]["power_watts"] is False
            volts = 'count(voltage_volts{source="power_supply"}) == 10'
            wait_until("it shows", lambda: query(url, volts))
            wait_until("what was switched off is gone", lambda: not query(url, 'power_watts{hostname="edge-10"}'))

            # All of them told at once, by a server that may never have heard of them itself.
            answer = servers[-1].ask("POST", "/devices/reload")[1]
            assert (answer["success"], answer["failed"]) == (BOARDS, 0), answer
            devices = servers[-1].ask("GET", "/devices")[1]
            assert devices["healthy"] == BOARDS, devices

            # Nothing was lost, and nothing restarted that need not.
            window = f"{int(time.time() - begin) + 1}s"
            resets = query(url, f"max(resets(energy_joules_total[{window}]))")
            assert resets[0]["value"][1] == "0", resets
            down = query(url, f'min_over_time(up{{hostname!="{late.name}"}}[{window}]) != 1')
            assert not down, down
            for board in boards:
                assert board.process.poll() is None, f"{board.name} ended"
                if board is not seven:
                    assert "anew" not in board.log(), board.log()
            counted = query(url, f'increase(energy_joules_total{{hostname="edge-01"}}[{window}])')
            print(f"{BOARDS} boards, {len(servers)} server(s), {window}: edge-01 counted {counted[0]['value'][1]} J")
    except BaseException:
        for board in (boards[6], boards[9], late):
            if board.process:
                print(f"--- {board.name}:\n{board.log()}")
        raise
    finally:
        stop(boards)


def main():
    which = sys.argv[1:] or ["directory", "etcd"]
    if "directory" in which:
        with temporary() as directory, ConfigServer(directory / "store") as server:
            scenario([server], fixture(directory / "tree"), directory)
    if "etcd" in which:
        with temporary() as directory, etcd() as (address, _), contextlib.ExitStack() as stack:
            servers = [stack.enter_context(ConfigServer(f"etcd://{address}/fleet")) for _ in range(3)]
            scenario(servers, fixture(directory / "tree"), directory)


main()
