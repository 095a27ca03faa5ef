//! `workloads.names:`.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::section::{Problem, Section};
use crate::config::{values, Kubernetes};

/// The most sockets.
const MAX_SOCKETS: usize = 16;

/// Where names of containers and pods are learned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Names {
    /// Whether anybody is asked.
    pub enabled: bool,
    /// Sockets that speak Docker's API; `None` is Docker's and Podman's.
    pub sockets: Option<Vec<PathBuf>>,
    /// The folder with the folders `pods` and `containers` of kubelet; `None` is `/var/log`.
    pub pod_logs: Option<PathBuf>,
    /// nerdctl's data root; `None` is `/var/lib/nerdctl`.
    pub nerdctl: Option<PathBuf>,
    /// The Kubernetes API.
    pub kubernetes: Kubernetes,
    /// This node's name in Kubernetes; `None` is NODE_NAME in the environment, or the host's name.
    pub node: Option<String>,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            enabled: true,
            sockets: None,
            pod_logs: None,
            nerdctl: None,
            kubernetes: Kubernetes::default(),
            node: None,
        }
    }
}

impl Names {
    /// Reads the keys of the section.
    pub(in crate::sources::workloads) fn read(
        &mut self,
        section: &mut Section<'_, '_>,
    ) -> Result<(), Problem> {
        section.set("enabled", values::flag, &mut self.enabled)?;
        let wanted = "a list of the paths of sockets, or []";
        let sockets = |node: &_| values::list(node, wanted, MAX_SOCKETS, values::path);
        section.option("sockets", sockets, &mut self.sockets)?;
        section.option("pod_logs", values::path, &mut self.pod_logs)?;
        section.option("nerdctl", values::path, &mut self.nerdctl)?;
        section.option("node", values::host, &mut self.node)?;
        section.section("kubernetes", |section| self.kubernetes.read(section))
    }
}
