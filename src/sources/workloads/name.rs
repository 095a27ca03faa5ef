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

/// A workload's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The label `kind`.
    pub kind: Kind,
    /// The label `name`.
    pub name: String,
}

impl Name {
    /// A name from outside: short and without control characters.
    pub fn new(kind: Kind, raw: &str) -> Name {
        Name {
            kind,
            name: clean_name(raw).unwrap_or_else(|| "_".to_string()),
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
    /// `/rc` of OpenRC: every name is a service's.
    OpenRc,
    /// `kubepods`.
    Pods,
}

impl Scope {
    /// The root's.
    pub const ROOT: Scope = Scope::Slice(Folder::Plain);

    /// Whether it is no workload's, so that what begins in it is a workload of its own.
    pub fn is_slice(self) -> bool {
        matches!(self, Scope::Slice(_))
    }
}

/// What a cgroup of this name is that lies in a cgroup of this scope: the workload, if it is one, and its own scope.
pub fn classify(parent: Scope, raw: &str, kinds: &[Kind]) -> (Option<Name>, Scope) {
    let (name, scope) = recognise(parent, raw);
    match name {
        Some(name) if kinds.contains(&name.kind) => (Some(name), scope),
        // It is part of what it lies in; a container in a pod is one if pods are not asked for.
        Some(name) => match (parent.is_slice(), name.kind) {
            (_, Kind::Pod) => (None, Scope::Slice(Folder::Plain)),
            // A service in a container is not the board's service of that name.
            (_, Kind::Container) | (false, _) => (None, Scope::Part),
            (true, _) => (None, Scope::Slice(Folder::Plain)),
        },
        None => (None, scope),
    }
}

fn recognise(parent: Scope, raw: &str) -> (Option<Name>, Scope) {
    if parent == Scope::Closed {
        return (None, Scope::Closed);
    }
    let text = unescape(raw);
    let unit = text.strip_suffix(".slice");
    if let Some(uid) = pod_uid(parent, unit.unwrap_or(&text)) {
        return (Some(Name::new(Kind::Pod, &uid)), Scope::Closed);
    }
    if let Some(name) = container(parent, &text) {
        return (Some(Name::new(Kind::Container, &name)), Scope::Workload);
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
        None if parent == Scope::Slice(Folder::OpenRc) => Some(text.as_str()),
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
        (Some(service), _) => (Some(Name::new(Kind::Service, service)), Scope::Workload),
        (None, "lxc") => (None, Scope::Slice(Folder::Lxc)),
        (None, "rc") => (None, Scope::Slice(Folder::OpenRc)),
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

/// A container's name or the beginning of its id, if this is a container's cgroup.
fn container(parent: Scope, text: &str) -> Option<String> {
    let unit = text.strip_suffix(".scope").unwrap_or(text);
    // LXC 4 and later, LXD and Incus. The monitor is the container's own.
    for prefix in ["lxc.payload.", "lxc.monitor."] {
        if let Some(name) = unit.strip_prefix(prefix) {
            return Some(name.to_string());
        }
    }
    if parent == Scope::Slice(Folder::Lxc) {
        return Some(text.to_string());
    }
    // systemd-machined: libvirt's virtual machines, and nspawn's containers.
    if let (Some(machine), true) = (unit.strip_prefix("machine-"), text.ends_with(".scope")) {
        return Some(machine.to_string());
    }
    // `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-conmon-<id>.scope`, `libpod-<id>`, `<id>`.
    let id = unit.rsplit(['-', ':']).next().unwrap_or(unit);
    let is_id = id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id[..SHORT_ID].to_string())
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
        let mut scope = Scope::ROOT;
        let mut found = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let (name, inner) = classify(scope, part, kinds);
            found.extend(name.map(|name| format!("{} {}", name.kind.as_str(), name.name)));
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
        for (path, expected) in [
            ("/system.slice/ssh.service".to_string(), vec!["service ssh.service"]),
            ("/system.slice/system-getty.slice/getty@tty1.service".to_string(), vec!["service getty@tty1.service"]),
            ("/init.scope".to_string(), vec!["service init.scope"]),
            ("/openrc.sshd".to_string(), vec!["service sshd"]),
            ("/rc/dropbear".to_string(), vec!["service dropbear"]),
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
            (format!("/kubepods/besteffort/pod{UID}/{id}"), vec![&pod]),
            (format!("/kubepods/pod{UID}"), vec![&pod]),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/cri-containerd-{id}.scope"),
                vec![&pod],
            ),
            (format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{id}.scope"), vec![&pod]),
            (
                format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{escaped}.slice"),
                vec![&pod],
            ),
            // kind: the node is a container.
            (
                format!("/system.slice/docker-{id}.scope/kubelet/kubepods/besteffort/pod{UID}/{id}"),
                vec![container, &pod],
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
                Scope::Closed,
            ] {
                let (name, _) = classify(parent, raw, &ALL);
                if let Some(name) = name {
                    assert!(name.name.chars().count() <= 64, "{raw}");
                    assert!(!name.name.chars().any(char::is_control), "{raw}");
                    assert!(!name.name.is_empty(), "{raw}");
                }
            }
        }
    }
}
