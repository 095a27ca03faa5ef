//! The board's total: the source that owns it, and its energy.
//!
//! Several sources may know a total. The one with the best [`Grade`] is exported; between equal grades the order of the
//! sources decides. Its power is `power_total_watts`. Its energy goes into `board_energy_joules_total`, one counter for the
//! whole process: when the total moves to another source, the counter continues from its value.

use std::sync::Mutex;

use super::energy::Integrator;
use super::family::Desc;
use super::group::Group;
use super::readings::Readings;
use super::series::SeriesId;
use crate::sys::clock::BootTime;
use crate::sys::lock;
use crate::sys::sort::sort_by;

/// How good a source's total is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The configuration declares it to be the board's total.
    Configured,
    /// Measured where the board's power comes in.
    Input,
    /// The sum of measured parts of the board, which draws more than that.
    Parts,
    /// A last resort, used if no other source knows a total.
    Other,
}

/// The family of the board's total power.
pub const BOARD_POWER: &str = "power_total_watts";
/// The family of the board's total energy.
pub const BOARD_ENERGY: &str = "board_energy_joules_total";
/// Time constant with which earlier comparisons lose weight, in seconds.
const COMPARISON_DECAY: f64 = 60.0;
/// An input that draws less than the board's parts is rejected after this many compared seconds, since meters average over
/// different times.
const MIN_DISPROOF: f64 = 10.0;

/// Compares a whole with the sum of its parts by their energy over the last minute, so that single readings do not
/// decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comparison {
    whole: f64,
    parts: f64,
    seconds: f64,
}

impl Comparison {
    /// Adds the joules of the whole and of the parts over the last `seconds`.
    pub fn add(&mut self, seconds: f64, whole: f64, parts: f64) {
        let kept = (-seconds / COMPARISON_DECAY).exp();
        self.whole = self.whole * kept + whole;
        self.parts = self.parts * kept + parts;
        self.seconds += seconds;
    }

    /// Whether the whole is less than the parts. Never true before `seconds` have been compared.
    pub fn is_less(&self, seconds: f64) -> bool {
        self.seconds >= seconds && self.whole < self.parts
    }
}

/// A source's total: `power_total_watts` and `board_energy_joules_total`.
#[derive(Debug, Clone)]
pub struct Total {
    power: SeriesId,
    energy: SeriesId,
    integrator: Integrator,
}

/// What one poll read for the board's total.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BoardReading {
    energy: Option<SeriesId>,
    watts: Option<f64>,
    joules: f64,
    parts: Option<f64>,
}

impl Total {
    /// Registers both families and claims the board's total for this group with this grade, in place of its earlier claim.
    pub fn new(group: &Group, grade: Grade) -> Total {
        let power = Desc::gauge(BOARD_POWER, "Electric power of the whole board, in watts.");
        let energy = Desc::counter(
            BOARD_ENERGY,
            "Electric energy of the whole board since the exporter started, of what power_total_watts shows, in joules.",
        );
        let total = Total {
            power: group.series(&power.of_board(), &[]),
            energy: group.series(&energy.of_board(), &[]),
            integrator: Integrator::default(),
        };
        group.claim_total(Some(grade));
        total
    }

    /// Publishes a reading in watts and integrates it. An implausible reading is ignored.
    pub fn set_watts(&mut self, out: &mut Readings, watts: f64) {
        if let Some(watts) = out.try_set(self.power, watts) {
            let joules = self.integrator.advance(out.at, watts, out.max_gap);
            self.publish(out, Some(watts), joules);
        }
    }

    /// Publishes a reading of a source that counts energy itself: watts, if known, and the joules since the last reading.
    pub fn set_counted(&self, out: &mut Readings, watts: Option<f64>, joules: f64) {
        let watts = watts.and_then(|watts| out.try_set(self.power, watts));
        self.publish(out, watts, joules);
    }

    fn publish(&self, out: &mut Readings, watts: Option<f64>, joules: f64) {
        out.board.energy = Some(self.energy);
        out.board.watts = watts;
        out.board.joules = joules;
    }

    /// Publishes what parts of the board draw together, in watts. A meter at the board's input cannot show less.
    pub fn set_parts(&self, out: &mut Readings, watts: f64) {
        out.board.parts = Some(watts);
    }
}

/// One group's claim to the board's total.
#[derive(Debug)]
struct Claim {
    id: u64,
    rank: u32,
    source: String,
    settled: bool,
    grade: Option<Grade>,
    /// Whether the input drew less than the board's parts.
    disproved: bool,
    comparison: Comparison,
    read_at: BootTime,
    parts: Option<f64>,
}

#[derive(Debug, Default)]
struct BoardState {
    /// In the order of the sources.
    claims: Vec<Claim>,
    last_id: u64,
    owner: Option<u64>,
    joules: f64,
    began: Option<BootTime>,
}

/// Decides which group owns the board's total. Shared by all groups.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<BoardState>);

impl Board {
    /// Adds a group and returns its number.
    pub(super) fn join(&self, rank: u32, source: &str) -> u64 {
        let mut state = lock::lock(&self.0);
        state.last_id += 1;
        let id = state.last_id;
        state.claims.push(Claim {
            id,
            rank,
            source: source.to_string(),
            settled: false,
            grade: None,
            disproved: false,
            comparison: Comparison::default(),
            read_at: BootTime::default(),
            parts: None,
        });
        sort_by(&mut state.claims, |a, b| a.rank.cmp(&b.rank));
        state.choose();
        id
    }

    /// Removes a group.
    pub(super) fn leave(&self, id: u64) {
        let mut state = lock::lock(&self.0);
        state.claims.retain(|claim| claim.id != id);
        state.choose();
    }

    /// Marks this group as settled: what it measures is known.
    pub(super) fn settle(&self, id: u64) {
        self.change(id, |claim| claim.settled = true);
    }

    /// Sets the grade of the total that the group knows, or that it knows none. True if the owner of the total changed.
    pub(super) fn claim(&self, id: u64, grade: Option<Grade>) -> bool {
        self.change(id, |claim| {
            if claim.grade != grade {
                claim.grade = grade;
                claim.disproved = false;
                claim.comparison = Comparison::default();
            }
        })
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Claim)) -> bool {
        let mut state = lock::lock(&self.0);
        match state.claims.iter_mut().find(|s| s.id == id) {
            Some(claim) => change(claim),
            None => return false,
        }
        state.choose()
    }

    /// The number of the group that owns the total; 0 if none does.
    pub(super) fn owner(&self) -> u64 {
        lock::lock(&self.0).owner.unwrap_or(0)
    }

    /// Accounts for one poll. If this group owns the total, returns the series of its energy, the joules so far, and since
    /// when they are counted. Returns also whether the owner of the total changed.
    pub(super) fn publish(
        &self,
        id: u64,
        at: BootTime,
        max_gap: f64,
        poll: &BoardReading,
    ) -> (Option<(SeriesId, f64, BootTime)>, bool) {
        if poll.energy.is_none() && poll.parts.is_none() {
            return (None, false);
        }
        let mut state = lock::lock(&self.0);
        let moved = state.compare(id, at, max_gap, poll);
        let energy = poll.energy.filter(|_| state.owner == Some(id));
        let counted = energy.map(|energy| {
            // A total only grows: a negative or broken increase is none.
            let grows = poll.joules > 0.0 && poll.joules.is_finite();
            state.joules += if grows { poll.joules } else { 0.0 };
            (energy, state.joules, *state.began.get_or_insert(at))
        });
        (counted, moved)
    }
}

impl BoardState {
    /// Chooses the owner of the total. True if it changed.
    fn choose(&mut self) -> bool {
        let mut best: Option<(Grade, u64)> = None;
        for claim in &self.claims {
            let valid = claim.grade.filter(|_| !claim.disproved);
            if let Some(grade) = valid.filter(|grade| best.is_none_or(|(best, _)| *grade < best)) {
                best = Some((grade, claim.id));
            }
            // A later group might have to give way to this one a moment later.
            if !claim.settled {
                break;
            }
        }
        let owner = best.map(|(_, id)| id);
        let before = std::mem::replace(&mut self.owner, owner);
        let moved = before != owner;
        let now = self.claims.iter().find(|s| owner == Some(s.id));
        if let (true, Some(_), Some(claim)) = (moved, before, now) {
            log::info!("power_total_watts is now read from {}", claim.source);
        }
        moved
    }

    /// Rejects the claim of an input that draws less than the board's parts.
    fn compare(&mut self, id: u64, at: BootTime, max_gap: f64, poll: &BoardReading) -> bool {
        let is_fresh = |s: &Claim| at.seconds_since(s.read_at) <= max_gap;
        let others = self.claims.iter().filter(|s| s.id != id && is_fresh(s));
        let parts = others
            .filter_map(|s| Some((s.parts?, s.source.clone())))
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some(claim) = self.claims.iter_mut().find(|s| s.id == id) else {
            return false;
        };
        let seconds = at.seconds_since(claim.read_at);
        claim.read_at = at;
        claim.parts = poll.parts;
        let is_input = claim.grade == Some(Grade::Input) && !claim.disproved;
        let (Some(watts), Some((parts, parts_source))) = (poll.watts, parts.filter(|_| is_input))
        else {
            return false;
        };
        if seconds > max_gap {
            return false;
        }
        let comparison = &mut claim.comparison;
        comparison.add(seconds, watts * seconds, parts * seconds);
        if !comparison.is_less(MIN_DISPROOF) {
            return false;
        }
        claim.disproved = true;
        log::warn!(
            "{}: its total of the board ({watts:.1} W) is less than a part of the board draws by {parts_source} ({parts:.1} W): \
             it is no longer used for power_total_watts",
            claim.source
        );
        self.choose()
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
