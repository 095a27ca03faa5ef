//! Where the labels of the naming schemes come from: what is known of a workload, the board, a processor and a file system, by field.
//! Pure.

use super::host::{Disk, Processor};
use super::name::{Kind, Workload};
use crate::metrics::BUILD;

/// A workload, and the host name of the board that it runs on.
pub(super) struct Fields<'a> {
    pub workload: &'a Workload,
    pub node: &'a str,
}

impl Fields<'_> {
    /// The value of a field; `None`: it has none, or there is no such field.
    pub(super) fn get(&self, field: &str) -> Option<String> {
        let Workload { name, origin } = self.workload;
        let program = origin.program.as_deref();
        let text = |text: &str| Some(text.to_string());
        if let Some(label) = field.strip_prefix("label.") {
            let mut labels = origin.labels.iter();
            return labels
                .find(|(known, _)| *known == label)
                .map(|(_, value)| value.clone());
        }
        match field {
            "kind" => text(name.kind.as_str()),
            "name" => text(&name.name),
            "namespace" => name.namespace.clone(),
            "pod" => name.pod.clone(),
            "pod_container" => name.container.clone(),
            "container_id" => origin.container_id.clone(),
            "container_name" => {
                let of_program = || program.and_then(|program| program.container.clone());
                let of_container = || (name.kind == Kind::Container).then(|| name.name.clone());
                let known = name
                    .container
                    .clone()
                    .or_else(of_program)
                    .or_else(of_container);
                // An id where the name is unknown, as the native names have it.
                known
                    .or_else(|| Some(origin.container_id.as_ref()?.get(..12)?.to_string()))
                    .filter(|_| origin.container_id.is_some())
            }
            "runtime" => text(origin.runtime?),
            "pod_uid" => origin.pod_uid.clone(),
            "pod_node" => origin.pod_uid.as_ref().map(|_| self.node.to_string()),
            "scheduler" => match (&origin.pod_uid, origin.runtime) {
                (Some(_), _) => text("kubernetes"),
                (None, Some("docker")) => text("docker"),
                _ => None,
            },
            "is_containerd" => text(origin.runtime.filter(|name| *name == "containerd")?),
            "machine" => self.machine(),
            // libvirt's name of a machine: qemu-1-debian.
            "hypervisor" => self
                .machine()?
                .starts_with("qemu-")
                .then(|| "kvm".to_string()),
            "pid" => Some(program?.pid.to_string()),
            "exe_path" => program?.exe.clone(),
            "exe" => match program.and_then(|program| program.exe.as_deref()) {
                Some(exe) => text(exe.rsplit('/').next().unwrap_or(exe)),
                None => text(&name.name),
            },
            "cmdline" => program?.cmdline.clone(),
            "process_type" => match (&origin.container_id, self.machine()) {
                (Some(_), _) => text("container"),
                (None, Some(_)) => text("vm"),
                (None, None) => text("regular"),
            },
            field => of_node(field, self.node),
        }
    }

    /// The machine of systemd-machined that this is, or that the process is of.
    fn machine(&self) -> Option<String> {
        let Workload { name, origin } = self.workload;
        match &origin.program {
            _ if origin.runtime != Some("machined") => None,
            Some(program) => program.container.clone(),
            None => Some(name.name.clone()),
        }
    }
}

/// A field of the board.
pub(super) fn of_node(field: &str, node: &str) -> Option<String> {
    if field == "node" {
        return Some(node.to_string());
    }
    let mut build = BUILD.iter();
    build
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.to_string())
}

/// A field of a processor.
pub(super) fn of_processor(field: &str, processor: &Processor) -> Option<String> {
    match field {
        "processor" => Some(processor.processor.clone()),
        "vendor_id" => processor.vendor_id.clone(),
        "model_name" => processor.model_name.clone(),
        "physical_id" => processor.physical_id.clone(),
        "core_id" => processor.core_id.clone(),
        _ => None,
    }
}

/// A field of a file system.
pub(super) fn of_disk(field: &str, disk: &Disk) -> Option<String> {
    match field {
        "device" => Some(disk.device.clone()),
        "mount_point" => Some(disk.mount_point.clone()),
        "file_system" => Some(disk.file_system.clone()),
        _ => None,
    }
}
