//! The table of families, shared by all groups.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::board::Board;
use super::family::{Desc, Family, Policy};
use crate::sys::lock;
use crate::sys::sort::sort;

/// All families by name.
#[derive(Default)]
pub(super) struct Families {
    by_name: RwLock<HashMap<String, Arc<Family>>>,
    policy: Mutex<Policy>,
    /// Incremented whenever a series is registered, which outdates render plans.
    version: AtomicU64,
    pub(super) board: Board,
}

impl Families {
    pub(super) fn intern(&self, desc: &Desc) -> Arc<Family> {
        if let Some(family) = lock::read(&self.by_name).get(desc.name.as_ref()) {
            return Arc::clone(family);
        }
        // The policy stays locked while the family is created, so that a new policy reaches every family.
        let policy = lock::lock(&self.policy);
        let mut by_name = lock::write(&self.by_name);
        Arc::clone(
            by_name
                .entry(desc.name.to_string())
                .or_insert_with(|| Arc::new(Family::new(desc, &policy))),
        )
    }

    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Sets which families are exported, including those registered later.
    pub(super) fn set_policy(&self, policy: Policy) {
        let mut current = lock::lock(&self.policy);
        for family in lock::read(&self.by_name).values() {
            family.apply(&policy);
        }
        *current = policy;
    }

    /// The families that `metrics:` can switch, sorted by name, and whether each is exported.
    pub(super) fn switchable(&self) -> Vec<(String, bool)> {
        let mut names: Vec<_> = lock::read(&self.by_name)
            .values()
            .filter(|family| !family.own)
            .map(|family| (family.name.clone(), family.is_enabled()))
            .collect();
        sort(&mut names);
        names
    }
}
