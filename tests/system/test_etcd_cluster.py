"""Three etcd in network namespaces, three config-servers and forty boards. Members and a server are killed, stopped, and parted from
the others, and the history is compacted meanwhile. No accepted change is lost, no refused one is made, every server sees what the
others change, boards keep what they have, and what cannot be answered is an error.

It makes network and mount namespaces of its own: as root."""

import concurrent.futures
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

from peers import ConfigServer, get, temporary, wait_until
from polling_boards import Board, fixture, stop

INSIDE = "EDGE_METRICS_TEST_INSIDE"
BOARDS = 40
# Clients reach the members on one network, and the members each other on another one.
CLIENTS, MEMBERS = "10.77.0", "10.77.1"
TEST = f"{CLIENTS}.254"


def run(command, **options):
    return subprocess.run(command.split(), check=True, capture_output=True, text=True, **options).stdout


def networks():
    """Three namespaces, each on both networks. Their names are in a directory that only this process and its children see."""
    run("mount -t tmpfs tmpfs /run")
    run("ip link set lo up")
    for network in ("clients", "members"):
        run(f"ip link add {network} type bridge")
        run(f"ip link set {network} up")
    run(f"ip address add {TEST}/24 dev clients")
    for number in (1, 2, 3):
        run(f"ip netns add site-{number}")
        run(f"ip -n site-{number} link set lo up")
        for network, addresses in (("clients", CLIENTS), ("members", MEMBERS)):
            run(f"ip link add {network}-{number} type veth peer name {network} netns site-{number}")
            run(f"ip link set {network}-{number} master {network} up")
            run(f"ip -n site-{number} link set {network} up")
            run(f"ip -n site-{number} address add {addresses}.{number}/24 dev {network}")


@contextlib.contextmanager
def parted(number):
    """The member cannot reach the others, nor they it. Whatever is sent is dropped without a word."""
    run(f"bridge link set dev members-{number} state 0")
    try:
        yield
    finally:
        run(f"bridge link set dev members-{number} state 3")


class Member:
    """An etcd that can be killed and started again with its data."""

    def __init__(self, number, directory):
        self.number, self.client = number, f"{CLIENTS}.{number}:2379"
        cluster = ",".join(f"m{n}=http://{MEMBERS}.{n}:2380" for n in (1, 2, 3))
        self.command = ["ip", "netns", "exec", f"site-{number}", "etcd", f"--name=m{number}", f"--data-dir={directory}/m{number}"]
        self.command += ["--listen-client-urls=http://0.0.0.0:2379", f"--advertise-client-urls=http://{self.client}"]
        self.command += [f"--listen-peer-urls=http://{MEMBERS}.{number}:2380", f"--initial-advertise-peer-urls=http://{MEMBERS}.{number}:2380"]
        self.command += [f"--initial-cluster={cluster}", "--logger=zap", "--log-level=error"]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def ctl(self, *words):
        environment = {**os.environ, "ETCDCTL_API": "3"}
        command = ["etcdctl", f"--endpoints=http://{self.client}", "--command-timeout=3s", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout

    def status(self):
        return json.loads(self.ctl("endpoint", "status", "--write-out=json"))[0]["Status"]

    def is_leader(self):
        status = self.status()
        return status["leader"] == status["header"]["member_id"]


class Server(ConfigServer):
    """A config-server at an address of the clients' network; in a member's namespace, or in that of the boards."""

    def __init__(self, store, address, *namespace):
        super().__init__(store, "--management.allow-remote")
        self.address = self.address.replace("127.0.0.1", address)
        self.url = f"http://{self.address}"
        self.command = [*namespace, *(word.replace("127.0.0.1", address) for word in self.command)]


class Changes:
    """A client of each server that changes boards all the time, two settings by each change, and remembers what the server said."""

    def __init__(self, servers):
        self.servers, self.stopped = servers, threading.Event()
        self.accepted, self.refused, self.unknown, self.wrong = {}, {}, {}, []
        self.threads = [threading.Thread(target=self.change, args=[n]) for n in range(len(servers))]

    def change(self, which):
        number = which
        while not self.stopped.wait(0.05):
            number += len(self.servers)
            board, names = f"edge-{random.randint(1, BOARDS):02}", {f"change_{number}": False, f"also_{number}": False}
            try:
                status, answer, _ = self.servers[which].ask("PATCH", f"/config/{board}", {"metrics": names})
            except OSError:
                self.unknown[number] = board
                continue
            if status == 200:
                self.accepted[number] = board
                continue
            if not (status == 503 and answer["error"] == "Store unavailable" and "does not answer" in answer["message"]):
                self.wrong.append((status, answer))
                return
            kind = self.unknown if "whether the change was saved is not known" in answer["message"] else self.refused
            kind[number] = board

    def goes_on(self, which):
        """Waits until the server has accepted another change."""
        before = max((n for n in list(self.accepted) if n % len(self.servers) == which), default=0)
        wait_until(f"server {which} accepts changes", lambda: any(n > before and n % len(self.servers) == which for n in list(self.accepted)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self, server):
        """Compares a server's configurations with what was said of the changes."""
        for board in {*self.accepted.values(), *self.refused.values(), *self.unknown.values()}:
            status, own, _ = server.ask("GET", f"/config/{board}?own")
            assert status == 200, own
            made = {kind: {int(n) for n in re.findall(rf'"{kind}_(\d+)"', json.dumps(own))} for kind in ("change", "also")}
            assert made["change"] == made["also"], f"{board}: a change was made by half"
            made = made["change"]
            of = lambda kind: {number for number, its_board in kind.items() if its_board == board}
            assert of(self.accepted) <= made, f"{board}: lost: {of(self.accepted) - made}"
            assert not of(self.refused) & made, f"{board}: refused and made: {of(self.refused) & made}"
            assert made <= of(self.accepted) | of(self.unknown), f"{board}: nobody made {made}"


def site_of(server, board):
    """The label of a board's target in a server's /sd."""
    status, targets, _ = server.ask("GET", "/sd")
    assert status == 200, targets
    return next(target["labels"].get("site") for target in targets if target["labels"].get("hostname") == board)


SITES = iter(range(1, 1000))


def check_news(servers, boards=("edge-05",)):
    """What each server changes, in a board and in a group, the others list."""
    for server in servers:
        for board in boards:
            site = f"s{next(SITES)}"
            answer = wait_until("a change is accepted", lambda: accepted(server.ask("PATCH", f"/config/{board}", {"target_labels": {"site": site}})))
            assert answer["status"] == "patched", answer
            for other in servers:
                wait_until(f"{other.url} lists what {server.url} changed", lambda: site_of(other, board) == site)
        seconds = 100 + next(SITES)
        wait_until("a group is changed", lambda: accepted(server.ask("PATCH", "/groups/default", {"config": {"history": {"seconds": seconds}}})))
        for other in servers:
            status, config, _ = other.ask("GET", "/config/edge-06")
            assert (status, config["history"]["seconds"]) == (200, seconds), (status, config)


def all_healthy(server):
    _, devices, _ = server.ask("GET", "/devices")
    bad = [device for device in devices["devices"] if device["status"] != "healthy"]
    assert len(devices["devices"]) == BOARDS and not bad, bad[:3]
    return True


def accepted(answer):
    status, answer, _ = answer
    assert status == 200 or status == 503, answer
    return answer if status == 200 else None


def check_refusals(server):
    """A server without a majority of etcd answers no configuration and no list, and says that it is unhealthy. All at once: each takes
    as long as etcd's members are waited for."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        paths = ("/config/edge-05", "/config/edge-05?own", "/sd", "/devices", "/groups", "/health")
        answers = dict(zip(paths, pool.map(lambda path: server.ask("GET", path), paths)))
    status, health, _ = answers.pop("/health")
    assert (status, health["status"], health["error"]) == (503, "unhealthy", "Store unavailable"), health
    for path, (status, answer, headers) in answers.items():
        assert status == 503 and answer["error"] == "Store unavailable", (path, status, answer)
        assert "the store etcd://" in answer["message"] and "does not answer" in answer["message"], answer
        assert headers["Retry-After"], headers


def main():
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, __file__])
    networks()
    with temporary() as directory, contextlib.ExitStack() as stack:
        members = {number: Member(number, directory) for number in (1, 2, 3)}
        for member in members.values():
            stack.callback(member.stop)
            member.start()
        for member in members.values():
            wait_until("etcd is up", lambda: b"true" in get(f"http://{member.client}/health")[0].encode())
        place = lambda network, order: "etcd://" + ",".join(f"{network}.{n}:2379" for n in order) + "/fleet"
        first = stack.enter_context(Server(place(CLIENTS, (1, 2, 3)), TEST))
        second = stack.enter_context(Server(place(CLIENTS, (2, 3, 1)), TEST))
        # Beside a member, and reaches the others by their network.
        third = stack.enter_context(Server(place(MEMBERS, (3, 1, 2)), f"{CLIENTS}.3", "ip", "netns", "exec", "site-3"))
        servers = [first, second, third]
        tree = fixture(directory / "tree")
        boards = [Board(number, directory, tree, [server.url for server in servers]) for number in range(1, BOARDS + 1)]
        stack.callback(stop, boards)
        for board in boards:
            board.start()
        try:
            scenario(members, servers, boards)
        except BaseException:
            for board in boards[4:6]:
                print(f"--- {board.name}:\n{board.log()}")
            raise


def scenario(members, servers, boards):
    first, second, third = servers
    assert first.ask("PUT", "/groups/default", {"config": {"history": {"seconds": 60}}})[0] == 200
    for server in servers:
        wait_until("all boards are registered", lambda: all_healthy(server))
    check_news(servers)
    begin = {board.name: board.process.pid for board in boards}

    with Changes(servers) as changes:
        # The leader goes without a word, and comes back. A watch of some server goes with it.
        leader = next(member for member in members.values() if member.is_leader())
        leader.stop()
        for which in range(3):
            changes.goes_on(which)
        check_news(servers)
        leader.start()

        # So does a server. Its boards go to the others.
        second.kill()
        wait_until("boards poll", lambda: all(board.ask("/health")["config_server"]["answered"] for board in boards))
        second.start()
        changes.goes_on(1)
        wait_until("etcd is whole", lambda: len({member.status()["raftTerm"] for member in members.values()}) == 1)
        check_news(servers)

        # A member is parted from the others, and its clients still reach it: those that watch there are told nothing.
        for number in (1, 2):
            with parted(number):
                for which in range(3):
                    changes.goes_on(which)
                check_news(servers)

        # A member and the server beside it are parted from all others. etcd forgets meanwhile what they have missed.
        with parted(3):
            wait_until("the third server sees it", lambda: third.ask("GET", "/health")[0] == 503)
            check_refusals(third)
            for which in (0, 1):
                changes.goes_on(which)
            check_news(servers[:2])
            # The boards have what they had, and those of the third server have gone to another one.
            for board in boards:
                assert board.ask("/config")["interval"] == 1, board.name
            wait_until("all boards poll", lambda: all(board.ask("/health")["config_server"]["answered"] for board in boards))
            members[1].ctl("compact", str(members[1].status()["header"]["revision"]), "--physical")
            refused = len(changes.refused) + len(changes.unknown)
        changes.goes_on(2)
        check_news(servers)

        # A server is stopped while etcd forgets what its watch has not told it yet, and the members that it may watch at are killed.
        second.process.send_signal(signal.SIGSTOP)
        for which in (0, 2):
            changes.goes_on(which)
        members[1].ctl("compact", str(members[1].status()["header"]["revision"]), "--physical")
        for member in list(members.values())[1:]:
            member.stop()
            member.start()
            wait_until("etcd is whole", lambda: member.status()["leader"])
        second.process.send_signal(signal.SIGCONT)
        for which in range(3):
            changes.goes_on(which)
        check_news(servers)

    assert not changes.wrong, changes.wrong
    for server in servers:
        changes.check(server)
    assert changes.accepted and refused, "nothing was changed, or nothing refused"
    for server in servers:
        wait_until("all boards are healthy", lambda: all_healthy(server))
    for board in boards:
        assert board.process.poll() is None and board.process.pid == begin[board.name], f"{board.name} ended"
    told = len(changes.accepted), len(changes.refused), len(changes.unknown)
    print(f"{BOARDS} boards, 3 servers, 3 etcd: {told[0]} changes accepted and kept, {told[1]} refused, {told[2]} unknown")


main()
