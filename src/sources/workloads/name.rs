//! What a cgroup is, by its name and by what it lies in. Pure.
//!
//! The names are those that systemd, container runtimes and kubelet give (systemd.unit(5), "Pod cgroups" of the Kubernetes
//! documentation, the runtimes' sources). A name is a stranger's: it may hold anything but a slash.

use serde::Serialize;

use crate::sources::sysfs::clean_name;

/// How many digits of a container's id its name has, as `docker ps` shows them.
const SHORT_ID: usize = 12;
/// The length of a container's id, in hexadecimal digits.
const ID: usize = 64;

/// The kind of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A unit of systemd or OpenRC, or a user's slice.
    Service,
    /// A container, or a machine of systemd-machined.
    Container,
    /// A Kubernetes pod.
    Pod,
    /// All processes of one name.
    Process,
    /// The kernel, interrupts, and processes in no cgroup of their own.
    System,
    /// All workloads that have no series of their own.
    Other,
}

impl Kind {
    /// Those that the configuration can ask for.
    pub const CONFIGURABLE: [Kind; 4] = [Kind::Service, Kind::Container, Kind::Pod, Kind::Process];

    /// The label `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Container => "container",
            Kind::Pod => "pod",
            Kind::Process => "process",
            Kind::System => "system",
            Kind::Other => "other",
        }
    }
}

/// A workload's labels. Workloads are the same if these are: several containers of one name have one series together, and one whose
/// name becomes known later ends under its id and begins under its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The label `kind`.
    pub kind: Kind,
    /// The label `name`.
    pub name: String,
    /// The label `namespace`: of a pod whose name is known.
    pub namespace: Option<String>,
    /// The label `pod`: of a pod whose name is known.
    pub pod: Option<String>,
    /// The label `container`: of a pod's container whose name is known. The rest of the pod has none.
    pub container: Option<String>,
}

impl Name {
    /// A name from outside: short and without control characters.
    pub fn new(kind: Kind, raw: &str) -> Name {
        Name {
            kind,
            name: clean(raw),
            namespace: None,
            pod: None,
            container: None,
        }
    }

    /// A pod, or a container in it.
    pub fn of_pod(namespace: &str, pod: &str, container: Option<&str>) -> Name {
        Name {
            namespace: Some(clean(namespace)),
            pod: Some(clean(pod)),
            container: container.map(clean),
            ..Name::new(Kind::Pod, pod)
        }
    }

    /// The labels and their values.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let optional = [
            ("namespace", &self.namespace),
            ("pod", &self.pod),
            ("container", &self.container),
        ];
        let optional = optional.into_iter();
        let known = optional.filter_map(|(label, value)| Some((label, value.as_deref()?)));
        [("kind", self.kind.as_str()), ("name", self.name.as_str())]
            .into_iter()
            .chain(known)
    }
}

fn clean(raw: &str) -> String {
    clean_name(raw).unwrap_or_else(|| "_".to_string())
}

/// What is known of a workload besides its labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The container's id: 64 hexadecimal digits. `None` for the rest of a pod, and for LXC and machines, which have none.
    pub container_id: Option<String>,
    /// What runs it: `docker`, `containerd`, `crio`, `podman`, `lxc`, `machined` or `qemu`. `None` while it is unknown.
    pub runtime: Option<&'static str>,
    /// The pod's uid, also of a pod's container.
    pub pod_uid: Option<String>,
    /// Those of the container's own labels that presets show, such as `com.docker.compose.service`.
    pub labels: Vec<(&'static str, String)>,
    /// The program of a process, where naming schemes ask for it.
    pub program: Option<Box<Program>>,
}

impl Origin {
    /// Whether this is the same container, or the same program in the same cgroup.
    pub(super) fn is_same_part(&self, other: &Origin) -> bool {
        let program = |origin: &Origin| {
            let program = origin.program.as_ref();
            program.map(|program| (program.exe.clone(), program.cgroup.clone()))
        };
        self.container_id == other.container_id && program(self) == program(other)
    }
}

/// What `/proc` tells of a process besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The number of the first of its processes.
    pub pid: u32,
    /// The path of its file, where that may be read.
    pub exe: Option<String>,
    /// The command line of the first of its processes.
    pub cmdline: Option<String>,
    /// The cgroup that it runs in.
    pub cgroup: String,
    /// The container or machine that it runs in, by its name.
    pub container: Option<String>,
}

/// A workload: its labels, and what else is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What its series are called.
    pub name: Name,
    /// What its series do not say. Of several that share a name, this is the first one's.
    pub origin: Origin,
}

impl Workload {
    /// Whether it is known by an id alone, so that its name has to be asked for.
    pub fn has_id(&self) -> bool {
        self.origin.container_id.is_some() || self.origin.pod_uid.is_some()
    }
}

impl From<Name> for Workload {
    fn from(name: Name) -> Workload {
        Workload {
            name,
            origin: Origin::default(),
        }
    }
}

/// What may lie in a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Slices and folders of a runtime: anything.
    Slice(Folder),
    /// A workload that may run containers: those, and pods.
    Workload,
    /// A folder of a workload's own: the same.
    Part,
    /// A pod: its containers.
    Pod,
    /// Nothing of interest: what lies in it is part of it.
    Closed,
}

/// Which folder a cgroup lies in, where its name alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Any.
    Plain,
    /// `/lxc`: every name is a container's.
    Lxc,
    /// `/rc` of OpenRC, `/services` of OpenWrt's procd: every name is a service's.
    Services,
    /// `/default` of containerd's `ctr`: every name is a container's.
    Ctr,
    /// `/qemu.slice` of Proxmox: every scope is a virtual machine's.
    Qemu,
    /// `kubepods`.
    Pods,
    /// `/docker`: the ids are Docker's.
    Docker,
}

impl Scope {
    /// The root's.
    pub const ROOT: Scope = Scope::Slice(Folder::Plain);

    /// Whether it is no workload's, so that what begins in it is a workload of its own.
    pub fn is_slice(self) -> bool {
        matches!(self, Scope::Slice(_))
    }

    /// Whether new workloads in it are looked for at each poll.
    pub fn is_watched(self) -> bool {
        self.is_slice() || self == Scope::Pod
    }
}

/// What a cgroup of this name is that lies in a cgroup of this scope: the workload, if it is one, and its own scope. `pod` is the uid of
/// the pod that it lies in.
pub fn classify(
    parent: Scope,
    pod: Option<&str>,
    raw: &str,
    kinds: &[Kind],
) -> (Option<Workload>, Scope) {
    let (workload, scope) = recognise(parent, pod, raw);
    match workload {
        Some(workload) if kinds.contains(&workload.name.kind) => (Some(workload), scope),
        // It is part of what it lies in; a container in a pod is one if pods are not asked for.
        Some(workload) => match (parent.is_slice(), workload.name.kind) {
            (_, Kind::Pod) => (None, Scope::Slice(Folder::Plain)),
            // A service in a container is not the board's service of that name.
            (_, Kind::Container) | (false, _) => (None, Scope::Part),
            (true, _) => (None, Scope::Slice(Folder::Plain)),
        },
        None => (None, scope),
    }
}

fn recognise(parent: Scope, pod: Option<&str>, raw: &str) -> (Option<Workload>, Scope) {
    if parent == Scope::Closed {
        return (None, Scope::Closed);
    }
    let text = unescape(raw);
    if parent == Scope::Pod {
        let container = pod
            .zip(container(parent, &text))
            .filter(|(_, container)| container.origin.container_id.is_some());
        let in_pod = container.map(|(uid, container)| Workload {
            name: Name::new(Kind::Pod, uid),
            origin: Origin {
                pod_uid: Some(uid.to_string()),
                ..container.origin
            },
        });
        return (in_pod, Scope::Closed);
    }
    let unit = text.strip_suffix(".slice");
    if let Some(uid) = pod_uid(parent, unit.unwrap_or(&text)) {
        let pod = Workload {
            name: Name::new(Kind::Pod, &uid),
            origin: Origin {
                pod_uid: Some(uid),
                ..Origin::default()
            },
        };
        return (Some(pod), Scope::Pod);
    }
    if let Some(container) = container(parent, &text) {
        return (Some(container), Scope::Workload);
    }
    if unit.unwrap_or(&text).ends_with("kubepods") || parent == Scope::Slice(Folder::Pods) {
        return (None, Scope::Slice(Folder::Pods));
    }
    if !parent.is_slice() {
        return (None, Scope::Part);
    }
    let is_user = |unit: &str| {
        let uid = unit.strip_prefix("user-");
        uid.is_some_and(|uid| !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_digit()))
    };
    let service = match unit {
        Some(unit) if is_user(unit) => Some(text.as_str()),
        Some(_) => None,
        None if parent == Scope::Slice(Folder::Services) => Some(text.as_str()),
        // Older OpenRC.
        None => match text.strip_prefix("openrc.") {
            Some(service) => Some(service),
            None => [".service", ".scope"]
                .iter()
                .any(|end| text.ends_with(end))
                .then_some(text.as_str()),
        },
    };
    // Units that run at most a helper for a moment.
    if [".mount", ".swap", ".socket"]
        .iter()
        .any(|end| text.ends_with(end))
    {
        return (None, Scope::Closed);
    }
    match (service, text.as_str()) {
        (Some(service), _) => {
            let name = Name::new(Kind::Service, service);
            (Some(name.into()), Scope::Workload)
        }
        (None, "lxc") => (None, Scope::Slice(Folder::Lxc)),
        (None, "rc" | "services") => (None, Scope::Slice(Folder::Services)),
        (None, "default") => (None, Scope::Slice(Folder::Ctr)),
        (None, "qemu.slice") => (None, Scope::Slice(Folder::Qemu)),
        (None, "docker") => (None, Scope::Slice(Folder::Docker)),
        (None, _) => (None, Scope::Slice(Folder::Plain)),
    }
}

/// A pod's uid, if this is a pod's cgroup: `pod<uid>` in a folder of pods (cgroupfs driver), or
/// `kubepods-burstable-pod<uid>` with `_` for `-` (systemd driver).
fn pod_uid(parent: Scope, unit: &str) -> Option<String> {
    let uid = match unit.strip_prefix("pod") {
        Some(uid) if parent == Scope::Slice(Folder::Pods) => uid,
        _ => {
            let (before, uid) = unit.rsplit_once("-pod")?;
            before.contains("kubepods").then_some(uid)?
        }
    };
    let is_uid = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'_');
    // A static pod's is a hash of 32 digits without dashes.
    let fits = (32..=36).contains(&uid.len()) && uid.bytes().all(is_uid);
    fits.then(|| uid.replace('_', "-"))
}

/// The container, if this is a container's cgroup. One that has an id is called by its beginning.
fn container(parent: Scope, text: &str) -> Option<Workload> {
    let named = |name: &str, runtime| Workload {
        name: Name::new(Kind::Container, name),
        origin: Origin {
            runtime: Some(runtime),
            ..Origin::default()
        },
    };
    let unit = text.strip_suffix(".scope").unwrap_or(text);
    // LXC 4 and later, LXD and Incus. The monitor is the container's own.
    for prefix in ["lxc.payload.", "lxc.monitor."] {
        if let Some(name) = unit.strip_prefix(prefix) {
            return Some(named(name, "lxc"));
        }
    }
    match parent {
        Scope::Slice(Folder::Lxc) => return Some(named(text, "lxc")),
        Scope::Slice(Folder::Qemu) => return Some(named(unit, "qemu")),
        Scope::Slice(Folder::Ctr) if !is_container_id(text) => {
            return Some(named(text, "containerd"));
        }
        _ => {}
    }
    // systemd-machined: libvirt's virtual machines, and nspawn's containers.
    if let (Some(machine), true) = (unit.strip_prefix("machine-"), text.ends_with(".scope")) {
        return Some(named(machine, "machined"));
    }
    // `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-conmon-<id>.scope`, `libpod-<id>`, `<id>`.
    let (before, id) = match unit.rfind(['-', ':']) {
        Some(dash) => (&unit[..dash], &unit[dash + 1..]),
        None => ("", unit),
    };
    if !is_container_id(id) {
        return None;
    }
    let words = [
        ("docker", "docker"),
        ("libpod", "podman"),
        ("crio", "crio"),
        ("containerd", "containerd"),
        ("nerdctl", "containerd"),
    ];
    let by_word = words.iter().find(|(word, _)| before.contains(word));
    let by_folder = match parent {
        Scope::Slice(Folder::Docker) => Some("docker"),
        Scope::Slice(Folder::Ctr) => Some("containerd"),
        _ => None,
    };
    Some(Workload {
        name: Name::new(Kind::Container, &id[..SHORT_ID]),
        origin: Origin {
            container_id: Some(id.to_ascii_lowercase()),
            runtime: by_word.map(|(_, runtime)| *runtime).or(by_folder),
            ..Origin::default()
        },
    })
}

/// Whether this is a container's id.
pub fn is_container_id(id: &str) -> bool {
    id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// systemd writes `\x2d` for a character that a unit's name may not have.
fn unescape(raw: &str) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = match after {
            [b'x', high, low, ..] if *first == b'\\' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match code {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "2f3c4d5e-0123-4567-89ab-cdef01234567";
    const ALL: [Kind; 3] = [Kind::Service, Kind::Container, Kind::Pod];

    /// The workloads on the way down a path, outermost first, as `kind name`.
    fn workloads_of(path: &str, kinds: &[Kind]) -> Vec<String> {
        let (mut scope, mut uid) = (Scope::ROOT, None);
        let mut found = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let (workload, inner) = classify(scope, uid.as_deref(), part, kinds);
            uid = workload.as_ref().and_then(|one| one.origin.pod_uid.clone());
            found.extend(workload.map(|Workload { name, origin }| {
                let id = origin.container_id.unwrap_or_default();
                match name.kind {
                    Kind::Pod if !id.is_empty() => format!("{}'s {}", name.name, &id[..4]),
                    kind => format!("{} {}", kind.as_str(), name.name),
                }
            }));
            scope = inner;
        }
        found
    }

    #[test]
    fn paths_of_public_reports_have_their_kind_and_name() {
        let id = HEX;
        let escaped = UID.replace('-', "_");
        let container = "container 0123456789ab";
        let pod = format!("pod {UID}");
        let pods = format!("{UID}'s 0123");
        for (path, expected) in [
            ("/system.slice/ssh.service".to_string(), vec!["service ssh.service"]),
            ("/system.slice/system-getty.slice/getty@tty1.service".to_string(), vec!["service getty@tty1.service"]),
            ("/init.scope".to_string(), vec!["service init.scope"]),
            ("/openrc.sshd".to_string(), vec!["service sshd"]),
            ("/rc/dropbear".to_string(), vec!["service dropbear"]),
            // OpenWrt.
            ("/services/dnsmasq/instance1".to_string(), vec!["service dnsmasq"]),
            // Proxmox.
            ("/lxc/100/ns".to_string(), vec!["container 100"]),
            ("/lxc.monitor.100".to_string(), vec!["container 100"]),
            ("/qemu.slice/100.scope".to_string(), vec!["container 100"]),
            ("/default/web".to_string(), vec!["container web"]),
            (format!("/default/{id}"), vec![container]),
            ("/user.slice/user-1000.slice/session-2.scope".to_string(), vec!["service user-1000.slice"]),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service".to_string(), vec!["service user-1000.slice"]),
            (format!("/system.slice/docker-{id}.scope"), vec![container]),
            (format!("/docker/{id}"), vec![container]),
            (format!("/actions_job/{id}"), vec![container]),
            (format!("/machine.slice/libpod-{id}.scope"), vec![container]),
            (format!("/machine.slice/libpod-conmon-{id}.scope"), vec![container]),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container"),
                vec!["service user-1000.slice", container],
            ),
            ("/lxc.payload.web".to_string(), vec!["container web"]),
            ("/lxc/web/system.slice/nginx.service".to_string(), vec!["container web"]),
            ("/machine.slice/machine-qemu\\x2d1\\x2ddebian.scope".to_string(), vec!["container qemu-1-debian"]),
            (format!("/kubepods/besteffort/pod{UID}/{id}"), vec![&pod, &pods]),
            (format!("/kubepods/besteffort/pod{UID}/{id}/docker/{id}"), vec![&pod, &pods]),
            (format!("/kubepods/besteffort/pod{UID}/a.service"), vec![&pod]),
            (format!("/kubepods/pod{UID}"), vec![&pod]),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/cri-containerd-{id}.scope"),
                vec![&pod, &pods],
            ),
            (format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{id}.scope"), vec![&pod, &pods]),
            (
                format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{escaped}.slice"),
                vec![&pod],
            ),
            // kind: the node is a container.
            (
                format!("/system.slice/docker-{id}.scope/kubelet/kubepods/besteffort/pod{UID}/{id}"),
                vec![container, &pod, &pods],
            ),
            ("/podruntime.slice/kubelet.service".to_string(), vec!["service kubelet.service"]),
            (format!("/system.slice/containerd.service/kubepods-burstable-pod{escaped}.slice:cri-containerd:{id}"), vec!["service containerd.service", container]),
            ("/system.slice/k3s.service/init".to_string(), vec!["service k3s.service"]),
            ("/dev-hugepages.mount".to_string(), vec![]),
            ("/user.slice".to_string(), vec![]),
            ("/docker".to_string(), vec![]),
            ("/a".to_string(), vec![]),
        ] {
            assert_eq!(workloads_of(&path, &ALL), expected, "{path}");
        }
    }

    #[test]
    fn kinds_that_are_not_asked_for_are_part_of_what_they_lie_in() {
        let escaped = UID.replace('-', "_");
        let pod = format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{HEX}.scope");
        assert_eq!(
            workloads_of(&pod, &[Kind::Container]),
            ["container 0123456789ab"]
        );
        assert_eq!(workloads_of(&pod, &[Kind::Service]), [""; 0]);
        let service = format!("/docker/{HEX}/system.slice/ssh.service");
        assert_eq!(workloads_of(&service, &[Kind::Service]), [""; 0]);
        let kind = format!("/docker/{HEX}/kubelet/kubepods/pod{UID}");
        let pod = format!("pod {UID}");
        assert_eq!(workloads_of(&kind, &[Kind::Service, Kind::Pod]), [pod]);
        let nested = format!("/system.slice/a.service/libpod-{HEX}.scope");
        assert_eq!(
            workloads_of(&nested, &[Kind::Service]),
            ["service a.service"]
        );
        assert_eq!(
            workloads_of(&nested, &[Kind::Container]),
            ["container 0123456789ab"]
        );
    }

    #[test]
    fn hostile_names_are_bounded_and_printable() {
        let long = format!("{}.service", "x".repeat(4096));
        let cases = [
            "a\"b\n.service",
            "\\x",
            "\\x0a.service",
            "pod",
            "-pod",
            "lxc.payload.",
            long.as_str(),
            "é.service",
            "\\xff.service",
        ];
        for raw in cases {
            for parent in [
                Scope::ROOT,
                Scope::Slice(Folder::Pods),
                Scope::Slice(Folder::Lxc),
                Scope::Workload,
                Scope::Part,
                Scope::Pod,
                Scope::Closed,
            ] {
                let (workload, _) = classify(parent, Some(UID), raw, &ALL);
                if let Some(Workload { name, .. }) = workload {
                    assert!(name.name.chars().count() <= 64, "{raw}");
                    assert!(!name.name.chars().any(char::is_control), "{raw}");
                    assert!(!name.name.is_empty(), "{raw}");
                }
            }
        }
    }
}
