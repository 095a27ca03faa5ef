//! Metric families, their series, and energy. No meter is read here: readings come in with the time at which they were made.
//! Only the wall clock ([`WallClock`]) and the metrics of the exporter's own process are read from the system.
//!
//! A [`Registry`] holds one [`Group`] per source. A source thread collects what one poll read in [`Readings`] and
//! publishes it to its group in one step. A renderer takes a [`Snapshot`], which sees each group as one poll
//! left it, never a mixture of two polls.

mod board;
mod columns;
pub mod common;
mod delivery;
mod energy;
mod families;
mod family;
mod group;
mod history;
mod no_total;
pub mod plausible;
mod process;
mod rail_total;
mod readings;
mod registry;
mod self_group;
mod series;
mod wall;

pub use board::{Comparison, Grade, Total, BOARD_ENERGY, BOARD_POWER};
pub use columns::{Column, Columns};
pub use delivery::{Batch, DeliveryLimit, GroupRows, Progress};
pub use energy::{CounterUnwrap, EnergyCounter, Integrator, Rail, Step};
pub use family::{metric_name, shorten, Desc, Family, Kind, Policy};
pub use group::{staleness_limit, Group, MAX_SERIES_PER_GROUP};
pub use history::{Cursor, History, Rows};
pub use no_total::NoTotal;
pub(crate) use process::{Process, BUILD};
pub use rail_total::{PowerSum, RailTotal};
pub use readings::{Readings, RejectReason, Rejected};
pub use registry::{Layout, Registry, Snapshot, SnapshotFamily};
pub(crate) use self_group::SelfGroup;
pub use series::{quoted, Series, SeriesId};
pub use wall::{Offset, Stamp, Stamps, WallClock};

/// The marker of an absent value: Prometheus's own staleness marker, a NaN with this payload (`StaleNaN` in
/// prometheus/model/value). Series that hold it are not exported.
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);
pub(crate) const ABSENT_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is [`ABSENT`], as opposed to any other NaN.
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT_BITS
}
