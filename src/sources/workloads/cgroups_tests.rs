//! The tree on fixture hierarchies.

use super::*;
use crate::sources::testing::Tree;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A hierarchy of version 2 (or 1), and what was read of it.
struct Hosts {
    tree: Tree,
    cgroups: Cgroups,
    slots: Slots,
    is_v2: bool,
}

impl Hosts {
    fn new(is_v2: bool, max: usize, cgroups: &[(&str, u64)]) -> Hosts {
        let tree = Tree::new(&[]);
        match is_v2 {
            true => tree.write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            false => tree.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n"),
        }
        let health = Arc::new(Health::default());
        let hierarchy = Hierarchy::find(&Board::detect(tree.roots())).unwrap();
        let kinds = vec![Kind::Service, Kind::Container, Kind::Pod];
        let hosts = Hosts {
            cgroups: Cgroups::new(&health, hierarchy, &tree.path("proc"), kinds),
            slots: Slots::new(max),
            tree,
            is_v2,
        };
        hosts.busy(0);
        cgroups.iter().for_each(|(path, ms)| hosts.set(path, *ms));
        hosts
    }

    fn folder(&self, cgroup: &str) -> String {
        let root = if self.is_v2 { "" } else { "/cpuacct" };
        format!("sys/fs/cgroup{root}/{cgroup}")
    }

    /// A cgroup has used so many milliseconds.
    fn set(&self, cgroup: &str, ms: u64) {
        let folder = self.folder(cgroup);
        match self.is_v2 {
            true => {
                let text = format!("usage_usec {}\nuser_usec 1\nsystem_usec 1\n", ms * 1000);
                self.tree.write(&format!("{folder}/cpu.stat"), text);
                self.tree.write(&format!("{folder}/cgroup.procs"), "1\n");
            }
            false => {
                let text = format!("{}\n", ms * 1_000_000);
                self.tree.write(&format!("{folder}/cpuacct.usage"), text);
                self.tree.write(&format!("{folder}/tasks"), "1\n");
            }
        }
    }

    /// All processors have been busy for so many milliseconds.
    fn busy(&self, ms: u64) {
        let text = format!("cpu  {} 0 0 99999 0 0 0 0 0 0\ncpu0 0 0 0 0\n", ms / 10);
        self.tree.write("proc/stat", text);
    }

    /// Polls, and says what was used, in milliseconds: `kind name ms`, sorted, and nothing of what has used nothing.
    fn poll(&mut self) -> Vec<String> {
        let mut used = Vec::new();
        self.cgroups.poll(&mut self.slots, &mut used).unwrap();
        self.slots.take_ended();
        let name = |place: usize| match place {
            SYSTEM => "system".to_string(),
            OTHER => "other".to_string(),
            place if self.slots.is_hidden(place) => "hidden".to_string(),
            place => {
                let name = &self.slots.workload(place).unwrap().name;
                format!("{} {}", name.kind.as_str(), name.name)
            }
        };
        let used = used.iter().enumerate().filter(|(_, nanos)| **nanos > 0);
        let mut lines: Vec<_> = used
            .map(|(place, nanos)| format!("{} {}", name(place), nanos / 1_000_000))
            .collect();
        lines.sort();
        lines
    }
}

#[test]
fn each_cgroup_has_what_it_used_without_what_lies_in_it() {
    let service = format!("system.slice/a.service/libpod-{ID}.scope");
    for is_v2 in [true, false] {
        let mut hosts = Hosts::new(
            is_v2,
            500,
            &[
                ("system.slice", 1000),
                ("system.slice/a.service", 600),
                (&service, 100),
                ("system.slice/b.service", 400),
                ("dev-hugepages.mount", 0),
            ],
        );
        assert_eq!(hosts.poll(), [""; 0], "nothing is known of the time before");
        hosts.busy(1000);
        hosts.set("system.slice", 1000 + 700);
        hosts.set("system.slice/a.service", 600 + 400);
        hosts.set(&service, 100 + 300);
        hosts.set("system.slice/b.service", 400 + 200);
        let expected = [
            "container 0123456789ab 300",
            "other 100",
            "service a.service 100",
            "service b.service 200",
            "system 300",
        ];
        assert_eq!(hosts.poll(), expected);
        assert_eq!(hosts.poll(), [""; 0]);
    }
}

#[test]
fn workload_that_began_and_ended_between_two_polls_is_in_its_slice() {
    let mut hosts = Hosts::new(true, 500, &[("system.slice", 0)]);
    hosts.poll();
    hosts.busy(500);
    hosts.set("system.slice", 400);
    assert_eq!(hosts.poll(), ["other 400", "system 100"]);
}

#[test]
fn new_cgroup_counts_from_its_beginning_and_no_more_than_its_slice() {
    let mut hosts = Hosts::new(true, 500, &[("system.slice", 0)]);
    hosts.poll();
    hosts.busy(1000);
    hosts.set("system.slice", 500);
    hosts.set("system.slice/new.service", 450);
    // Renamed, or seen late.
    hosts.set("system.slice/old.service", 70_000);
    let used = hosts.poll();
    assert_eq!(
        used,
        [
            "service new.service 450",
            "service old.service 50",
            "system 500"
        ]
    );
    hosts.busy(2000);
    hosts.set("system.slice", 600);
    hosts.set("system.slice/old.service", 70_100);
    assert_eq!(hosts.poll(), ["service old.service 100", "system 900"]);
}

#[test]
fn new_cgroup_has_all_that_it_used_though_its_slice_is_read_before_it() {
    let mut hosts = Hosts::new(true, 500, &[("system.slice", 0)]);
    hosts.poll();
    hosts.busy(1000);
    // Between the two reads it used another 50 ms.
    hosts.set("system.slice", 400);
    hosts.set("system.slice/new.service", 450);
    assert_eq!(hosts.poll(), ["service new.service 400", "system 600"]);
    hosts.busy(2000);
    hosts.set("system.slice", 600);
    hosts.set("system.slice/new.service", 500);
    assert_eq!(
        hosts.poll(),
        ["other 100", "service new.service 100", "system 800"]
    );
    hosts.busy(3000);
    hosts.set("system.slice", 700);
    assert_eq!(
        hosts.poll(),
        ["other 100", "system 900"],
        "it is counted once"
    );
}

#[test]
fn new_cgroup_that_runs_on_has_all_that_it_used_when_it_stops() {
    let mut hosts = Hosts::new(true, 500, &[("system.slice", 0)]);
    hosts.poll();
    // It has used another 50 ms by the time it is read, and at the next two polls another 20.
    let polls = [
        (400, 450, 400),
        (800, 820, 400),
        (1000, 1020, 200),
        (1100, 1100, 100),
    ];
    for (i, (slice, service, counted)) in polls.into_iter().enumerate() {
        hosts.busy(1000 * (i as u64 + 1));
        hosts.set("system.slice", slice);
        hosts.set("system.slice/new.service", service);
        let system = 1000 - counted;
        assert_eq!(
            hosts.poll(),
            [
                format!("service new.service {counted}"),
                format!("system {system}")
            ],
            "poll {i}"
        );
    }
}

#[test]
fn new_cgroup_does_not_take_for_ever_what_its_slice_uses() {
    let mut hosts = Hosts::new(true, 500, &[("system.slice", 0)]);
    hosts.poll();
    // What it had used before the last poll, what it lies in had counted by then.
    for (i, service) in [
        (1, "service old.service 300"),
        (2, "service old.service 300"),
    ] {
        hosts.busy(1000 * i);
        hosts.set("system.slice", 300 * i);
        hosts.set("system.slice/old.service", 9000);
        assert_eq!(hosts.poll(), [service, "system 700"]);
    }
    hosts.busy(3000);
    hosts.set("system.slice", 900);
    assert_eq!(hosts.poll(), ["other 300", "system 700"]);
}

#[test]
fn cgroup_that_vanishes_leaves_its_last_time_to_its_slice() {
    let mut hosts = Hosts::new(
        true,
        500,
        &[
            ("system.slice", 0),
            ("system.slice/a.service", 0),
            ("system.slice/b.service", 0),
        ],
    );
    hosts.poll();
    hosts.busy(1000);
    hosts.tree.remove("sys/fs/cgroup/system.slice/a.service");
    hosts.set("system.slice", 800);
    hosts.set("system.slice/b.service", 300);
    // Plain files can be read after they were removed, other than a cgroup's: what is there is listed.
    assert_eq!(
        hosts.poll(),
        ["other 500", "service b.service 300", "system 200"]
    );
    assert_eq!(hosts.slots.all().count(), 1);
    // Started again under the same name.
    hosts.set("system.slice/a.service", 100);
    hosts.set("system.slice", 900);
    hosts.busy(1100);
    assert_eq!(hosts.poll(), ["service a.service 100"]);
}

#[test]
fn whole_slice_that_vanishes_takes_its_workloads_along() {
    let pod = "kubepods.slice/kubepods-pod2f3c4d5e_0123_4567_89ab_cdef01234567.slice";
    let mut hosts = Hosts::new(
        true,
        500,
        &[("kubepods.slice", 0), (pod, 0), ("z.service", 0)],
    );
    hosts.poll();
    assert_eq!(hosts.slots.all().count(), 2);
    hosts.tree.remove("sys/fs/cgroup/kubepods.slice");
    hosts.busy(100);
    hosts.set("z.service", 60);
    assert_eq!(hosts.poll(), ["service z.service 60", "system 40"]);
    assert_eq!(hosts.slots.all().count(), 1);
}

#[test]
fn below_a_workload_new_containers_are_found_at_a_rescan() {
    let inner = format!("a.service/inner/libpod-{ID}.scope");
    let mut hosts = Hosts::new(true, 500, &[("a.service", 0)]);
    hosts.poll();
    hosts.busy(100);
    hosts.set("a.service", 100);
    hosts.set(&inner, 80);
    assert_eq!(hosts.poll(), ["service a.service 100"]);
    hosts.cgroups.rescan();
    hosts.busy(200);
    hosts.set("a.service", 200);
    hosts.set(&inner, 170);
    assert_eq!(
        hosts.poll(),
        ["service a.service 100"],
        "it may have been there for long"
    );
    hosts.busy(300);
    hosts.set("a.service", 300);
    hosts.set(&inner, 260);
    assert_eq!(
        hosts.poll(),
        ["container 0123456789ab 90", "service a.service 10"]
    );
}

#[test]
fn workloads_beyond_the_limit_are_other_until_there_is_room() {
    let mut hosts = Hosts::new(
        true,
        2,
        &[("a.service", 0), ("b.service", 0), ("c.service", 0)],
    );
    hosts.poll();
    let limits = hosts.cgroups.health.limits();
    assert_eq!(limits["workloads"].left_out, 1);
    hosts.busy(300);
    for name in ["a", "b", "c"] {
        hosts.set(&format!("{name}.service"), 100);
    }
    assert_eq!(
        hosts.poll(),
        [
            "other 100",
            "service a.service 100",
            "service b.service 100"
        ]
    );
    hosts.tree.remove("sys/fs/cgroup/a.service");
    hosts.poll();
    hosts.poll();
    hosts.busy(400);
    hosts.set("c.service", 200);
    assert_eq!(hosts.poll(), ["service c.service 100"]);
    assert_eq!(
        hosts.cgroups.health.limits()["workloads"].left_out,
        1,
        "it is counted once"
    );
}

#[test]
fn more_cgroups_than_are_read_are_counted_with_what_they_lie_in() {
    let mut hosts = Hosts::new(true, 2, &[]);
    for i in 0..MAX_CGROUPS + 100 {
        let folder = hosts
            .tree
            .path(&format!("sys/fs/cgroup/a.slice/{i}.service"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cpu.stat"), "usage_usec 0\n").unwrap();
    }
    hosts.set("a.slice", 0);
    hosts.poll();
    assert!(hosts.cgroups.nodes.len() <= MAX_CGROUPS);
    assert!(hosts.cgroups.health.limits()["cgroups"].left_out >= 100);
    hosts.busy(100);
    hosts.set("a.slice", 70);
    assert_eq!(hosts.poll(), ["other 70", "system 30"]);
}

#[test]
fn counters_that_disagree_are_settled_later() {
    let mut hosts = Hosts::new(true, 500, &[("a.service", 0)]);
    hosts.poll();
    // The processors' time is counted in hundredths of a second, a cgroup's is exact.
    hosts.busy(90);
    hosts.set("a.service", 100);
    assert_eq!(hosts.poll(), ["service a.service 100"]);
    hosts.busy(210);
    hosts.set("a.service", 200);
    assert_eq!(hosts.poll(), ["service a.service 100", "system 10"]);
    hosts.set("a.service", 50);
    assert_eq!(
        hosts.poll(),
        ["service a.service 50"],
        "another of the same name"
    );
}

#[test]
fn hostile_hierarchies_are_read() {
    let quotes = "system.slice/a\"b\\x0a\\x22.service";
    let long = format!("system.slice/{}.service", "x".repeat(240));
    let mut hosts = Hosts::new(true, 500, &[(quotes, 0), (&long, 0), ("system.slice", 0)]);
    hosts.tree.write(
        "sys/fs/cgroup/system.slice/broken.service/cpu.stat",
        "usage_usec x\n",
    );
    hosts
        .tree
        .fifo("sys/fs/cgroup/system.slice/fifo.service/cpu.stat");
    hosts
        .tree
        .write("sys/fs/cgroup/system.slice/file.service", "");
    std::os::unix::fs::symlink(
        ".",
        hosts.tree.path("sys/fs/cgroup/system.slice/loop.slice"),
    )
    .unwrap();
    hosts.poll();
    assert!(hosts.cgroups.nodes.len() <= MAX_CGROUPS);
    let names: Vec<_> = hosts
        .slots
        .all()
        .map(|(_, workload)| workload.name.name.clone())
        .collect();
    assert!(
        names.iter().any(|name| name == "a\"b_\".service"),
        "{names:?}"
    );
}

#[test]
fn unit_that_begins_like_a_file_is_a_workload() {
    let mut hosts = Hosts::new(true, 500, &[("io.podman.service", 0), ("cpu.slice", 0)]);
    hosts.set("cpu.slice/a.service", 0);
    hosts.poll();
    assert_eq!(hosts.slots.all().count(), 2);
}

#[test]
fn cgroups_are_read_to_a_limit_of_nesting() {
    let mut path = "user.slice/user-1000.slice/kubepods".to_string();
    let above = [("user.slice", 0), ("user.slice/user-1000.slice", 0)];
    let mut hosts = Hosts::new(true, 500, &above);
    hosts.set(&path, 0);
    for _ in 0..300 {
        path.push_str("/a");
        hosts.set(&path, 0);
    }
    hosts.poll();
    // The root, and one of each depth.
    assert_eq!(hosts.cgroups.nodes.len(), 1 + MAX_NESTING);
    assert_eq!(hosts.cgroups.health.limits()["cgroups"].left_out, 1);
}

#[test]
fn new_cgroup_in_a_slice_with_as_many_folders_as_before_is_found_at_a_rescan() {
    let mut hosts = Hosts::new(
        true,
        500,
        &[
            ("system.slice", 0),
            ("system.slice/a.service", 0),
            ("system.slice/tmp.mount", 0),
        ],
    );
    hosts.poll();
    hosts.tree.remove("sys/fs/cgroup/system.slice/tmp.mount");
    hosts.set("system.slice/b.service", 0);
    hosts.poll();
    hosts.cgroups.rescan();
    hosts.poll();
    assert_eq!(hosts.slots.all().count(), 2);
}

#[test]
fn cgroup_ends_where_the_kernel_says_so() {
    use nix::libc::{EIO, EMFILE, ENODEV, ENOENT};
    let is_gone = |errno| is_gone(&io::Error::from_raw_os_error(errno));
    assert!(is_gone(ENOENT) && is_gone(ENODEV));
    assert!(!is_gone(EMFILE) && !is_gone(EIO));
}

#[test]
fn counter_that_cannot_be_read_for_a_while_leaves_its_time_to_what_it_lies_in() {
    let (slice, a, b) = (
        "system.slice",
        "system.slice/a.service",
        "system.slice/b.service",
    );
    let mut hosts = Hosts::new(true, 500, &[(slice, 0), (a, 0), (b, 0)]);
    hosts.poll();
    let break_off = |hosts: &Hosts, cgroup: &str| {
        let path = format!("{}/cpu.stat", hosts.folder(cgroup));
        hosts.tree.write(&path, "nonsense\n");
    };
    // At each poll: what cannot be read, and what was used.
    for (i, (unread, expected)) in [
        (
            None,
            &[
                "other 20",
                "service a.service 30",
                "service b.service 40",
                "system 10",
            ],
        ),
        (
            Some(a),
            &["other 50", "service b.service 40", "system 10", ""],
        ),
        (
            Some(a),
            &["other 50", "service b.service 40", "system 10", ""],
        ),
        // There is one reading.
        (None, &["other 50", "service b.service 40", "system 10", ""]),
        (
            None,
            &[
                "other 20",
                "service a.service 30",
                "service b.service 40",
                "system 10",
            ],
        ),
        (
            Some(slice),
            &[
                "service a.service 30",
                "service b.service 40",
                "system 30",
                "",
            ],
        ),
        (
            None,
            &[
                "service a.service 30",
                "service b.service 40",
                "system 30",
                "",
            ],
        ),
        (
            None,
            &[
                "other 20",
                "service a.service 30",
                "service b.service 40",
                "system 10",
            ],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let polls = i as u64 + 1;
        hosts.busy(100 * polls);
        for (cgroup, ms) in [(slice, 90), (a, 30), (b, 40)] {
            hosts.set(cgroup, ms * polls);
        }
        unread
            .into_iter()
            .for_each(|cgroup| break_off(&hosts, cgroup));
        let expected: Vec<_> = expected.iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            hosts.poll().iter().collect::<Vec<_>>(),
            expected,
            "poll {polls}"
        );
    }
}

#[test]
fn board_without_cgroups_says_what_was_looked_for() {
    let tree = Tree::new(&[]);
    let error = Hierarchy::find(&Board::detect(tree.roots()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("neither cgroup.controllers (cgroup v2) nor cpuacct"),
        "{error}"
    );
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "0\n");
    tree.write("sys/fs/cgroup/unified/cgroup.controllers", "\n");
    let hybrid = Hierarchy::find(&Board::detect(tree.roots())).unwrap();
    assert_eq!(hybrid.version(), "cgroup v1 (cpuacct)");
}

/// The containers that an engine lists, as it says it.
fn list_of(containers: &[(&str, &str)]) -> String {
    let listed: Vec<_> = containers
        .iter()
        .map(|(id, name)| format!("{{\"Id\":\"{id}\",\"Names\":[\"/{name}\"]}}"))
        .collect();
    format!("[{}]", listed.join(","))
}

impl Hosts {
    /// Has names learned from kubelet's logs below `log`, and from a socket that answers with what is in `list`.
    fn with_names(mut self) -> Hosts {
        let list = self.tree.path("list");
        self.tree.write("list", list_of(&[]));
        let socket = self.tree.path("engine.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = io::Read::read(&mut stream, &mut [0; 4096]);
                let body = std::fs::read_to_string(&list).unwrap_or_default();
                let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
                let _ = io::Write::write_all(&mut stream, answer.as_bytes());
            }
        });
        let settings = crate::sources::workloads::names::Settings {
            sockets: Some(vec![socket]),
            pod_logs: Some(self.tree.path("log")),
            ..Default::default()
        };
        let board = Board::detect(self.tree.roots());
        let health = Arc::clone(&self.cgroups.health);
        let names = Names::new(&health, &board, &settings, &self.cgroups.kinds);
        self.cgroups = self.cgroups.with_names(names);
        self
    }

    /// Waits until whoever was asked for names has answered.
    fn settle(&self) {
        crate::sources::workloads::names::tests::settle(self.cgroups.names.as_ref().unwrap());
    }

    /// The workloads that have places, with all their labels.
    fn names(&self) -> Vec<String> {
        let label = |(_, workload): (usize, &Workload)| {
            let labels: Vec<_> = workload.name.labels().map(|(_, value)| value).collect();
            labels.join(" ")
        };
        let mut names: Vec<_> = self.slots.all().map(label).collect();
        names.sort();
        names
    }
}

#[test]
fn container_is_never_called_by_its_id_where_its_name_is_learned_in_time() {
    let cgroup = format!("docker/{ID}");
    let mut hosts = Hosts::new(true, 500, &[("docker", 0)]).with_names();
    hosts.tree.write("list", list_of(&[(ID, "web")]));
    hosts.poll();
    let use_until = |hosts: &mut Hosts, ms: u64| {
        hosts.busy(ms);
        hosts.set(&cgroup, ms);
        hosts.set("docker", ms);
        hosts.poll()
    };
    assert_eq!(use_until(&mut hosts, 100), ["hidden 100"]);
    assert_eq!(hosts.names(), [""; 0], "it waits");
    let place = hosts.slots.hidden().next();
    hosts.settle();
    assert_eq!(use_until(&mut hosts, 160), ["container web 60"]);
    assert_eq!(hosts.names(), ["container web"]);
    let now = hosts.slots.all().next().map(|(place, _)| place);
    assert_eq!(now, place, "what it used before is its own");
}

#[test]
fn containers_of_one_name_have_what_each_used_while_it_waited() {
    let ids = [ID.to_string(), ID.replace('0', "f")];
    let mut hosts = Hosts::new(true, 500, &[("docker", 0)]).with_names();
    hosts
        .tree
        .write("list", list_of(&[(&ids[0], "web"), (&ids[1], "web")]));
    hosts.poll();
    for id in &ids {
        hosts.set(&format!("docker/{id}"), 100);
    }
    hosts.set("docker", 200);
    hosts.busy(200);
    assert_eq!(hosts.poll(), ["hidden 100", "hidden 100"]);
    let places: Vec<_> = hosts.slots.hidden().collect();
    hosts.settle();
    let mut used = Vec::new();
    hosts.cgroups.poll(&mut hosts.slots, &mut used).unwrap();
    let inherited = super::super::slots::Ended {
        place: places[1],
        heir: Some(places[0]),
        was_hidden: true,
    };
    assert_eq!(hosts.slots.take_ended(), [inherited]);
    assert_eq!(hosts.names(), ["container web"]);
}

#[test]
fn container_whose_name_is_learned_late_ends_under_its_id() {
    let cgroup = format!("docker/{ID}");
    let mut hosts = Hosts::new(true, 500, &[("docker", 0), (&cgroup, 0)]).with_names();
    hosts.poll();
    hosts.settle();
    let mut ms = 0;
    let mut use_more = |hosts: &mut Hosts| {
        ms += 100;
        hosts.busy(ms);
        hosts.set(&cgroup, ms);
        hosts.set("docker", ms);
        hosts.poll()
    };
    // Whoever was asked does not know it.
    assert_eq!(use_more(&mut hosts), ["container 0123456789ab 100"]);
    hosts.tree.write("list", list_of(&[(ID, "web")]));
    hosts.cgroups.names.as_mut().unwrap().ask();
    hosts.settle();
    assert_eq!(use_more(&mut hosts), ["container web 100"]);
    assert_eq!(hosts.names(), ["container web"]);
    // It is renamed, and then forgotten.
    for (list, expected) in [
        (list_of(&[(ID, "shop")]), "container shop 100"),
        (list_of(&[]), "container shop 100"),
    ] {
        hosts.tree.write("list", list);
        hosts.cgroups.names.as_mut().unwrap().ask();
        hosts.settle();
        assert_eq!(use_more(&mut hosts), [expected]);
    }
}

#[test]
fn engine_that_does_not_answer_holds_a_name_back_for_two_polls() {
    let cgroup = format!("docker/{ID}");
    let mut hosts = Hosts::new(true, 500, &[("docker", 0), (&cgroup, 0)]).with_names();
    // A FIFO that nobody writes to: the engine hangs.
    hosts.tree.remove("list");
    hosts.tree.fifo("list");
    for _ in 0..2 {
        hosts.poll();
        assert_eq!(hosts.names(), [""; 0]);
    }
    hosts.poll();
    assert_eq!(hosts.names(), ["container 0123456789ab"]);
}

#[test]
fn containers_of_a_pod_are_workloads_of_their_own_and_the_rest_is_the_pods() {
    const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";
    let pod = format!("kubepods/burstable/pod{UID}");
    let nginx = format!("{pod}/{ID}");
    let pause = format!("{pod}/{}", ID.replace('0', "f"));
    let above = ["kubepods", "kubepods/burstable", &pod, &nginx, &pause];
    for is_v2 in [true, false] {
        let mut hosts = Hosts::new(is_v2, 500, &above.map(|path| (path, 0)));
        hosts
            .tree
            .write(&format!("log/pods/default_web-0_{UID}/nginx/0.log"), "");
        let log = format!("log/containers/web-0_default_nginx-{ID}.log");
        hosts.tree.write(&log, "");
        let use_all = |hosts: &mut Hosts, times: u64| {
            hosts.busy(1000 * times);
            hosts.set("kubepods", 1000 * times);
            hosts.set("kubepods/burstable", 1000 * times);
            hosts.set(&pod, 1000 * times);
            hosts.set(&nginx, 600 * times);
            hosts.set(&pause, 100 * times);
            hosts.poll()
        };
        // Without names, a pod is one workload.
        hosts.poll();
        assert_eq!(use_all(&mut hosts, 1), [format!("pod {UID} 1000")]);
        let mut hosts = hosts.with_names();
        hosts.cgroups.names.as_mut().unwrap().ask();
        hosts.settle();
        assert_eq!(use_all(&mut hosts, 2), ["pod web-0 400", "pod web-0 600"]);
        let names = ["pod web-0 default web-0", "pod web-0 default web-0 nginx"];
        assert_eq!(hosts.names(), names);
        // What ends is the pod's rest; the pod ends with all that is in it.
        hosts.tree.remove(&hosts.folder(&nginx));
        hosts.busy(3000);
        hosts.set("kubepods", 3000);
        hosts.set("kubepods/burstable", 3000);
        hosts.set(&pod, 3000);
        hosts.set(&pause, 300);
        assert_eq!(hosts.poll(), ["pod web-0 1000"]);
        assert_eq!(hosts.names(), names[..1]);
        hosts.tree.remove(&hosts.folder(&pod));
        hosts.poll();
        assert_eq!(hosts.names(), [""; 0]);
    }
}

/// Many folders at once, each with its file alone.
fn many(hosts: &Hosts, slice: &str, range: std::ops::Range<usize>, ms: u64) {
    for i in range {
        let folder = hosts
            .tree
            .path(&format!("sys/fs/cgroup/{slice}/n{i}.service"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("cpu.stat"),
            format!("usage_usec {}\n", ms * 1000),
        )
        .unwrap();
    }
}

/// Services and containers in them come and go, many at once: each poll has a place for those that are there, and for no other.
#[test]
fn after_a_burst_only_what_is_there_has_a_place() {
    use crate::sources::workloads::testing::Random;
    use std::collections::BTreeSet;
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut hosts = Hosts::new(seed % 2 == 0, 500, &[("system.slice", 0)]);
        let service = |i: usize| format!("system.slice/n{i}.service");
        let container = |i: usize| format!("{}/libpod-{i:012x}{:052x}.scope", service(i), 0);
        let mut there: BTreeSet<(usize, bool)> = BTreeSet::new();
        for round in 0..40 {
            let changes = if round % 4 == 3 { 60 } else { random.below(4) };
            for _ in 0..changes {
                let (i, is_inner) = (random.below(40), random.below(3) == 0);
                let cgroup = if is_inner { container(i) } else { service(i) };
                if there.contains(&(i, is_inner)) {
                    hosts.tree.remove(&hosts.folder(&cgroup));
                    there.remove(&(i, is_inner));
                    if !is_inner {
                        there.remove(&(i, true));
                    }
                } else if !is_inner || there.contains(&(i, false)) {
                    hosts.set(&cgroup, 0);
                    there.insert((i, is_inner));
                }
            }
            hosts.cgroups.rescan();
            hosts.poll();
            let mut expected: Vec<_> = there
                .iter()
                .map(|(i, is_inner)| match is_inner {
                    true => format!("container {i:012x}"),
                    false => format!("service n{i}.service"),
                })
                .collect();
            expected.sort();
            assert_eq!(hosts.names(), expected, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn known_cgroups_stay_where_a_slice_has_more_than_are_read() {
    let mut hosts = Hosts::new(true, 2, &[("a.slice", 0)]);
    many(&hosts, "a.slice", 0..MAX_CGROUPS, 0);
    hosts.poll();
    assert_eq!(hosts.cgroups.nodes.len(), MAX_CGROUPS);
    let left_out = |hosts: &Hosts| hosts.cgroups.health.limits()["cgroups"].left_out;
    // The root and the slice are cgroups, too.
    assert_eq!(left_out(&hosts), 2);
    let known: Vec<_> = hosts
        .cgroups
        .nodes
        .iter()
        .map(|node| node.path.clone())
        .collect();
    // They sort before those that are known.
    for i in 0..20 {
        hosts.set(&format!("a.slice/m{i}.service"), 0);
    }
    hosts.cgroups.rescan();
    for _ in 0..2 {
        hosts.poll();
        hosts.cgroups.rescan();
    }
    let paths = hosts.cgroups.nodes.iter().map(|node| node.path.clone());
    assert!(paths.eq(known));
    assert_eq!(left_out(&hosts), 22, "each is counted once");
}

#[test]
fn cgroups_and_workloads_in_others_leave_room_for_those_of_the_system() {
    let user = "user.slice/user-1000.slice";
    let mut hosts = Hosts::new(true, 10, &[("user.slice", 0), (user, 0)]);
    let container = |i: usize| format!("{user}/user@1000.service/libpod-{i:012x}{:052x}.scope", 0);
    for i in 0..MAX_NESTED + 50 {
        let folder = hosts.tree.path(&format!("sys/fs/cgroup/{}", container(i)));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cpu.stat"), "usage_usec 0\n").unwrap();
    }
    hosts.poll();
    assert_eq!(hosts.cgroups.nested, MAX_NESTED);
    assert_eq!(hosts.cgroups.health.limits()["cgroups"].left_out, 50);
    // The user's slice, and five containers.
    assert_eq!(hosts.slots.all().count(), 6);
    many(&hosts, "system.slice", 0..8, 0);
    hosts.set("system.slice", 0);
    hosts.poll();
    assert_eq!(hosts.slots.all().count(), 10);
    hosts.busy(1000);
    hosts.set("user.slice", 400);
    hosts.set(user, 400);
    hosts.set(&container(9), 300);
    hosts.set("system.slice", 500);
    many(&hosts, "system.slice", 0..1, 500);
    assert_eq!(
        hosts.poll(),
        [
            "other 300",
            "service n0.service 500",
            "service user-1000.slice 100",
            "system 100"
        ]
    );
}

#[test]
fn storms_of_cgroups_keep_the_sum() {
    let mut hosts = Hosts::new(true, 50, &[("system.slice", 0)]);
    hosts.poll();
    let mut busy = 0;
    for round in 0..20 {
        let first = round * 100;
        many(&hosts, "system.slice", first..first + 200, 1);
        for i in first.saturating_sub(100)..first {
            hosts
                .tree
                .remove(&format!("sys/fs/cgroup/system.slice/n{i}.service"));
        }
        busy += 1000;
        hosts.busy(busy);
        hosts.set("system.slice", busy);
        let mut used = Vec::new();
        hosts.cgroups.poll(&mut hosts.slots, &mut used).unwrap();
        assert_eq!(used.iter().sum::<u64>(), 1_000_000_000, "round {round}");
        hosts.slots.take_ended();
        assert_eq!(hosts.cgroups.nodes.len(), 2 + 200);
    }
}

#[test]
fn paths_that_are_as_long_as_they_can_be_are_read() {
    let mut hosts = Hosts::new(true, 500, &[]);
    let mut path = String::new();
    for depth in 0..12 {
        path.push_str(&format!("{}{depth}.slice/", "x".repeat(245)));
        hosts.set(path.trim_end_matches('/'), 0);
    }
    let quoted = format!("{path}a\"b\nc{{}},=.service");
    hosts.set(&quoted, 0);
    hosts.poll();
    hosts.busy(100);
    let above = quoted.match_indices('/').map(|(end, _)| &quoted[..end]);
    above
        .chain([&*quoted])
        .for_each(|path| hosts.set(path, 100));
    let used = hosts.poll();
    assert_eq!(used, ["service a\"b_c{},=.service 100"]);
}

#[test]
fn process_has_the_place_of_the_innermost_known_cgroup() {
    let container = format!("system.slice/a.service/libpod-{ID}.scope");
    for is_v2 in [true, false] {
        let services = [
            ("system.slice", 1),
            ("system.slice/a.service", 1),
            (&container, 1),
            ("system.slice/ab.service", 1),
        ];
        let mut hosts = Hosts::new(is_v2, 500, &services);
        hosts.poll();
        let name = |path: &str| match hosts.cgroups.place_of(path) {
            SYSTEM => "system".to_string(),
            OTHER => "other".to_string(),
            place => hosts.slots.workload(place).unwrap().name.name.clone(),
        };
        for (path, expected) in [
            ("/system.slice/a.service", "a.service"),
            ("/system.slice/a.service/worker/1", "a.service"),
            ("/system.slice/ab.service", "ab.service"),
            (&format!("/{container}"), &ID[..12]),
            (&format!("/{container}/container"), &ID[..12]),
            // What the CPU's time of these is, too.
            ("/system.slice/ended.service", "other"),
            ("/", "system"),
            ("", "system"),
            ("/init.scope.d", "system"),
            // Of another namespace.
            ("/../../system.slice/a.service", "other"),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }
}
