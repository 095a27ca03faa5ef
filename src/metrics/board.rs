//! The board's total: which source's it is, and how much energy it has come to.
//!
//! Several sources may know a total. One of them is shown: the best [`Grade`], and of the same grade the one that comes
//! first in the order of the sources. Its power is `power_total_watts`, its energy goes into `board_energy_joules_total`,
//! which is one counter for the whole process: when the total becomes another source's, the counter goes on where it is.

use std::sync::Mutex;

use super::energy::Integrator;
use super::family::Desc;
use super::group::Group;
use super::readings::Readings;
use super::series::SeriesId;
use crate::sys::clock::BootTime;
use crate::sys::lock;

/// What a total is worth, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The configuration says that this is the board's.
    Asked,
    /// Measured where the board's power comes in.
    Input,
    /// Measured of the board's parts and added up: the board draws more.
    Parts,
    /// What may be the board's if nothing else is.
    Other,
}

/// For how long what was compared before counts, in seconds.
const MEMORY: f64 = 60.0;
/// How long an input has to draw less than the board's parts until it is no longer taken for one, in seconds: meters
/// average over different times.
const CERTAIN: f64 = 10.0;

/// Whether what is said to be a whole draws less than its parts: by the energy of both over the last minute, so that
/// single readings do not decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comparison {
    whole: f64,
    parts: f64,
    seconds: f64,
}

impl Comparison {
    /// Both were read: the joules of so many seconds.
    pub fn add(&mut self, seconds: f64, whole: f64, parts: f64) {
        let kept = (-seconds / MEMORY).exp();
        self.whole = self.whole * kept + whole;
        self.parts = self.parts * kept + parts;
        self.seconds += seconds;
    }

    /// Whether the whole is less than the parts, by what was read in so many seconds or more.
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

/// What one poll says of the board.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfBoard {
    energy: Option<SeriesId>,
    watts: Option<f64>,
    joules: f64,
    parts: Option<f64>,
}

impl Total {
    /// Registers both families, and says that this group's source knows a total of this grade, in the place of what it
    /// said before.
    pub fn new(group: &Group, grade: Grade) -> Total {
        let power = Desc::gauge(
            "power_total_watts",
            "Electric power of the whole board, in watts.",
        );
        let energy = Desc::counter(
            "board_energy_joules_total",
            "Electric energy of the whole board since the exporter started, of what power_total_watts shows, in joules.",
        );
        let total = Total {
            power: group.series(&power.of_board(), &[]),
            energy: group.series(&energy.of_board(), &[]),
            integrator: Integrator::default(),
        };
        group.claim_board(Some(grade));
        total
    }

    /// Power was read, in watts: publishes it, and integrates it. What is not plausible was not read.
    pub fn watts(&mut self, out: &mut Readings, watts: f64) {
        if let Some(watts) = out.take(self.power, watts) {
            let joules = self.integrator.advance(out.at, watts, out.longest_gap);
            self.publish(out, Some(watts), joules);
        }
    }

    /// Power was read, if it is known, of what counts its energy itself: so many joules since the last reading.
    pub fn counted(&self, out: &mut Readings, watts: Option<f64>, joules: f64) {
        let watts = watts.and_then(|watts| out.take(self.power, watts));
        self.publish(out, watts, joules);
    }

    fn publish(&self, out: &mut Readings, watts: Option<f64>, joules: f64) {
        out.board.energy = Some(self.energy);
        out.board.watts = watts;
        out.board.joules = joules;
    }

    /// What parts of the board draw together, in watts: a meter at its input cannot show less.
    pub fn parts(&self, out: &mut Readings, watts: f64) {
        out.board.parts = Some(watts);
    }
}

/// What is known of one group.
#[derive(Debug)]
struct Standing {
    id: u64,
    rank: u32,
    source: String,
    settled: bool,
    claim: Option<Grade>,
    /// It was seen to draw less than the board's parts.
    disproved: bool,
    comparison: Comparison,
    read_at: BootTime,
    parts: Option<f64>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of the sources.
    standings: Vec<Standing>,
    last_id: u64,
    owner: Option<u64>,
    joules: f64,
    began: Option<BootTime>,
}

/// Whose the board's total is: shared by all groups.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<State>);

impl Board {
    /// A group comes, and gets a number.
    pub(super) fn join(&self, rank: u32, source: &str) -> u64 {
        let mut state = lock::lock(&self.0);
        state.last_id += 1;
        let id = state.last_id;
        state.standings.push(Standing {
            id,
            rank,
            source: source.to_string(),
            settled: false,
            claim: None,
            disproved: false,
            comparison: Comparison::default(),
            read_at: BootTime::default(),
            parts: None,
        });
        state.standings.sort_by_key(|standing| standing.rank);
        state.choose();
        id
    }

    /// A group goes.
    pub(super) fn leave(&self, id: u64) {
        let mut state = lock::lock(&self.0);
        state.standings.retain(|standing| standing.id != id);
        state.choose();
    }

    /// It is known by now what this group has.
    pub(super) fn settle(&self, id: u64) {
        self.change(id, |standing| standing.settled = true);
    }

    /// The group knows a total of this grade, or none. True: the total is another's now.
    pub(super) fn claim(&self, id: u64, grade: Option<Grade>) -> bool {
        self.change(id, |standing| {
            if standing.claim != grade {
                standing.claim = grade;
                standing.disproved = false;
                standing.comparison = Comparison::default();
            }
        })
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Standing)) -> bool {
        let mut state = lock::lock(&self.0);
        match state.standings.iter_mut().find(|s| s.id == id) {
            Some(standing) => change(standing),
            None => return false,
        }
        state.choose()
    }

    /// The number of the group whose the total is; 0 if it is nobody's.
    pub(super) fn owner(&self) -> u64 {
        lock::lock(&self.0).owner.unwrap_or(0)
    }

    /// Takes what one poll says. Where the total is this group's: the series of its energy, the joules so far, and since
    /// when these are counted. And whether the total has become another's by that.
    pub(super) fn publish(
        &self,
        id: u64,
        at: BootTime,
        longest_gap: f64,
        said: &OfBoard,
    ) -> (Option<(SeriesId, f64, BootTime)>, bool) {
        if said.energy.is_none() && said.parts.is_none() {
            return (None, false);
        }
        let mut state = lock::lock(&self.0);
        let moved = state.compare(id, at, longest_gap, said);
        let energy = said.energy.filter(|_| state.owner == Some(id));
        let counted = energy.map(|energy| {
            // A total only grows: a negative or broken increase is none.
            let grows = said.joules > 0.0 && said.joules.is_finite();
            state.joules += if grows { said.joules } else { 0.0 };
            (energy, state.joules, *state.began.get_or_insert(at))
        });
        (counted, moved)
    }
}

impl State {
    /// Whose the total is; true if that is another than before.
    fn choose(&mut self) -> bool {
        let mut best: Option<(Grade, u64)> = None;
        for standing in &self.standings {
            let claim = standing.claim.filter(|_| !standing.disproved);
            if let Some(grade) = claim.filter(|grade| best.is_none_or(|(best, _)| *grade < best)) {
                best = Some((grade, standing.id));
            }
            // One behind it would give way a moment later.
            if !standing.settled {
                break;
            }
        }
        let owner = best.map(|(_, id)| id);
        let before = std::mem::replace(&mut self.owner, owner);
        let moved = before != owner;
        let now = self.standings.iter().find(|s| owner == Some(s.id));
        if let (true, Some(_), Some(standing)) = (moved, before, now) {
            log::info!("power_total_watts is now that of {}", standing.source);
        }
        moved
    }

    /// Finds out whether an input draws less than the board's parts, and so is none.
    fn compare(&mut self, id: u64, at: BootTime, longest_gap: f64, said: &OfBoard) -> bool {
        let is_fresh = |s: &Standing| at.seconds_since(s.read_at) <= longest_gap;
        let others = self.standings.iter().filter(|s| s.id != id && is_fresh(s));
        let parts = others
            .filter_map(|s| Some((s.parts?, s.source.clone())))
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some(standing) = self.standings.iter_mut().find(|s| s.id == id) else {
            return false;
        };
        let seconds = at.seconds_since(standing.read_at);
        standing.read_at = at;
        standing.parts = said.parts;
        let is_input = standing.claim == Some(Grade::Input) && !standing.disproved;
        let (Some(watts), Some((parts, of))) = (said.watts, parts.filter(|_| is_input)) else {
            return false;
        };
        if seconds > longest_gap {
            return false;
        }
        let comparison = &mut standing.comparison;
        comparison.add(seconds, watts * seconds, parts * seconds);
        if !comparison.is_less(CERTAIN) {
            return false;
        }
        standing.disproved = true;
        log::warn!(
            "{}: what it takes for the board's total ({watts:.1} W) is less than what {of} measures of a part of the board \
             ({parts:.1} W): it is not shown as power_total_watts any more",
            standing.source
        );
        self.choose()
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
