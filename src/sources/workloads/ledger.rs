//! The model: attributes a domain's energy to workloads. Pure.
//!
//! Of the energy between two readings of a domain, idle power times the time is `idle`, and never more than the energy itself. Energy
//! above idle is shared in proportion to CPU time. Where no CPU time was used, it is `system`'s. So at every moment
//!
//! ```text
//! Σ workloads + system + other + ended + idle = all of the domain's joules since attribution began
//! ```
//!
//! While idle power is unknown, energy times the processors' utilization is shared, and the rest is `idle`.
//!
//! **A GPU** has its own utilization, and GPU time by process in place of CPU time. Where no GPU time is known, energy above idle is
//! `unattributed`, which is one more term of the sum. Where the GPU time of some processes is not available, the part of the utilization that
//! the other processes do not account for is unattributed.

use super::coarse::LONGEST_STEP;
use super::idle::IdleFit;

/// The index of the kernel, of interrupts, and of processes in no cgroup of their own.
pub(super) const SYSTEM: usize = 0;
/// The index of the workloads without series of their own, together.
pub(super) const OTHER: usize = 1;
/// The first index of a workload with series of its own.
pub(super) const FIRST: usize = 2;

/// One workload's share of a domain.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// CPU time since the domain was last read, in nanoseconds.
    pending: u64,
    /// Energy so far, in joules.
    joules: f64,
    /// Power between the domain's last two readings, in watts; `None`: the domain has not been read since the workload began.
    watts: Option<f64>,
}

/// One domain's energy by place.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    accounts: Vec<Account>,
    /// The sum of the intervals between polls in which the pending CPU time was used, in seconds.
    pending_seconds: f64,
    /// Time since the domain's counter last increased, in seconds.
    waited: f64,
    /// CPU time of all workloads since the time stamp of the domain's last reading, in nanoseconds; `None` before the first reading. A
    /// poll sees a reading after it was made, so that this begins with a part of that poll's CPU time.
    since_reading: Option<f64>,
    /// Of a GPU: whether the GPU time of some process since the last reading is not available.
    is_partial: bool,
    /// CPU time of all workloads in the last poll's interval, in nanoseconds, and the length of the interval in seconds.
    latest: (f64, f64),
    /// Idle power as configured, in watts.
    given_idle: Option<f64>,
    fit: IdleFit,
    /// Idle energy since attribution began.
    pub idle_joules: f64,
    /// Energy that had been attributed to workloads that have ended.
    pub ended_joules: f64,
    /// Energy of the domain since attribution began.
    pub total_joules: f64,
    /// Of a GPU: energy above idle that is attributed to no workload.
    pub unattributed_joules: Option<f64>,
    /// Mean power of the domain between its last two readings; `None` before the second.
    pub domain_watts: Option<f64>,
    /// The idle part of [`Ledger::domain_watts`].
    pub idle_power: Option<f64>,
    /// The unattributed part of it.
    pub unattributed_power: Option<f64>,
}

/// A reading of a domain's meter: the energy since the reading before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub joules: f64,
    pub seconds: f64,
    /// Whether readings are missing in between: the time since the last one is longer than a reading is valid.
    pub is_gap: bool,
    /// How long before this poll it was read, in seconds.
    pub age: f64,
    /// The part of the time in which a GPU was busy, as its meter says.
    pub load: Option<f64>,
}

impl Ledger {
    /// An empty one; idle power is learned if it is not given.
    pub(super) fn new(given_idle: Option<f64>) -> Ledger {
        let mut ledger = Ledger {
            given_idle,
            ..Ledger::default()
        };
        ledger.make_room(FIRST);
        ledger
    }

    /// An empty one of a GPU.
    pub(super) fn of_gpu(given_idle: Option<f64>) -> Ledger {
        Ledger {
            unattributed_joules: Some(0.0),
            ..Ledger::new(given_idle)
        }
    }

    /// Has so many places.
    pub(super) fn make_room(&mut self, places: usize) {
        if places > self.accounts.len() {
            self.accounts.resize(places, Account::default());
        }
    }

    /// A workload has begun at this place: it has no power until the domain is read.
    pub(super) fn begin(&mut self, place: usize) {
        self.make_room(place + 1);
        self.accounts[place].watts = None;
    }

    /// Adds the CPU time that each place used in these seconds.
    pub(super) fn add_cpu(&mut self, nanos: &[u64], seconds: f64) {
        let mut sum: u64 = 0;
        for (account, used) in self.accounts.iter_mut().zip(nanos) {
            account.pending = account.pending.saturating_add(*used);
            sum = sum.saturating_add(*used);
        }
        self.pending_seconds += seconds;
        self.latest = (sum as f64, seconds);
        if let Some(since) = &mut self.since_reading {
            *since += sum as f64;
        }
    }

    /// Adds the time of a GPU that each place used in these seconds; `is_partial`: there are processes of which that is not available.
    pub(super) fn add_gpu(&mut self, nanos: &[u64], seconds: f64, is_partial: bool) {
        self.is_partial |= is_partial;
        self.add_cpu(nanos, seconds);
    }

    /// Forgets the CPU time since the domain was last read.
    pub(super) fn discard_cpu(&mut self) {
        self.accounts
            .iter_mut()
            .for_each(|account| account.pending = 0);
        self.pending_seconds = 0.0;
        self.since_reading = None;
        self.is_partial = false;
    }

    /// The workload at this index has ended. The index is free for another workload, whose energy begins at 0. CPU time since the domain's
    /// last reading goes to the workload at `heir`: the same one under its new name, or `other`.
    pub(super) fn end(&mut self, place: usize, heir: usize) {
        self.ended_joules += self.vacate(place, heir);
    }

    /// The same where the heir is the same workload: the energy is the heir's, too.
    pub(super) fn inherit(&mut self, place: usize, heir: usize) {
        let joules = self.vacate(place, heir);
        self.accounts[heir].joules += joules;
    }

    /// Has a place begin anew at 0, and returns the joules that it had.
    fn vacate(&mut self, place: usize, heir: usize) -> f64 {
        self.make_room(heir + 1);
        let Some(account) = self.accounts.get_mut(place) else {
            return 0.0;
        };
        let ended = std::mem::take(account);
        let pending = &mut self.accounts[heir].pending;
        *pending = pending.saturating_add(ended.pending);
        ended.joules
    }

    /// Shares the energy of a reading in proportion to the CPU time since the last one. `processors` is the number of processors that are
    /// online. While neither that nor idle power is known, all energy is idle.
    pub(super) fn share(&mut self, reading: Reading, processors: Option<f64>) {
        let joules = match reading.joules {
            joules if joules > 0.0 && joules.is_finite() => joules,
            _ => 0.0,
        };
        self.waited += reading.seconds;
        if joules == 0.0 && !reading.is_gap && self.waited <= LONGEST_STEP {
            return;
        }
        let seconds = std::mem::take(&mut self.waited);
        let pending = self.accounts.iter().map(|account| account.pending);
        let used: u64 = pending.fold(0, u64::saturating_add);
        let used_seconds = used as f64 / 1e9;
        let cpu_seconds = std::mem::take(&mut self.pending_seconds);
        let used_until = self.used_until(reading.age);
        let is_gpu = self.unattributed_joules.is_some();
        let load = match is_gpu {
            true => reading.load,
            false => used_until.map(|nanos| nanos / 1e9 / seconds),
        };
        if let Some(load) = load.filter(|_| seconds > 0.0 && !reading.is_gap) {
            let (_, poll) = self.latest;
            self.fit.add(seconds, load, joules / seconds, poll);
        }
        let idle = match self.idle_watts() {
            Some(watts) => (watts * seconds).min(joules),
            None => {
                let busy = match (is_gpu, reading.load) {
                    (false, _) => processors.map(|count| used_seconds / (cpu_seconds * count)),
                    (true, Some(load)) => Some(load),
                    (true, None) if used > 0 => Some(used_seconds / cpu_seconds),
                    // Nothing says that it was idle.
                    (true, None) => Some(1.0),
                };
                let busy = busy.filter(|busy| busy.is_finite());
                let busy = busy.map_or(0.0, |busy| busy.clamp(0.0, 1.0));
                joules * (1.0 - busy)
            }
        };
        let above = joules - idle;
        let is_partial = std::mem::take(&mut self.is_partial);
        let unattributed = match (used, reading.load) {
            _ if !is_gpu => 0.0,
            (0, _) => above,
            (_, Some(load)) if is_partial => {
                let accounted = used_seconds / cpu_seconds / load;
                above * (1.0 - if accounted < 1.0 { accounted } else { 1.0 })
            }
            _ => 0.0,
        };
        self.total_joules += joules;
        self.idle_joules += idle;
        let power = |joules: f64| (seconds > 0.0).then(|| joules / seconds);
        (self.domain_watts, self.idle_power) = (power(joules), power(idle));
        if let Some(sum) = &mut self.unattributed_joules {
            *sum += unattributed;
            self.unattributed_power = power(unattributed);
        }
        let attributed = above - unattributed;
        for (place, account) in self.accounts.iter_mut().enumerate() {
            let used_here = std::mem::take(&mut account.pending);
            let share = match used {
                0 if place == SYSTEM && !is_gpu => attributed,
                0 => 0.0,
                used => attributed * (used_here as f64 / used as f64),
            };
            account.joules += share;
            account.watts = power(share);
        }
    }

    /// CPU time between the time stamps of the last reading and of this one, in nanoseconds. This one was made `age` seconds before the poll
    /// that read the CPU counters: CPU time is interpolated, as if it had been used evenly between two polls. `None` at the first reading.
    fn used_until(&mut self, age: f64) -> Option<f64> {
        let (nanos, seconds) = self.latest;
        let after = match seconds > 0.0 {
            true => nanos * (age / seconds).clamp(0.0, 1.0),
            false => 0.0,
        };
        let since = self.since_reading.replace(after)?;
        Some((since - after).max(0.0))
    }

    /// Idle power: as given, or as learned; `None`: unknown.
    pub(super) fn idle_watts(&self) -> Option<f64> {
        self.given_idle.or_else(|| self.fit.watts())
    }

    /// The fit that idle power was learned by, where it is not given, and known. The figures of a fit that is not good enough may look as good
    /// as those of one that is.
    pub(super) fn fit(&self) -> Option<&IdleFit> {
        let is_in_use = self.given_idle.is_none() && self.fit.watts().is_some();
        is_in_use.then_some(&self.fit)
    }

    /// Energy of a place so far, in joules. It begins at 0.
    pub(super) fn joules(&self, place: usize) -> Option<f64> {
        Some(self.accounts.get(place)?.joules)
    }

    /// Power of a place between the domain's last two readings, in watts; `None`: the domain has not been read twice since the
    /// workload began.
    pub(super) fn watts(&self, place: usize) -> Option<f64> {
        self.accounts.get(place)?.watts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::workloads::testing::Random;

    const SECOND: u64 = 1_000_000_000;

    fn parts(ledger: &Ledger) -> f64 {
        let joules = ledger.accounts.iter().map(|account| account.joules);
        let unattributed = ledger.unattributed_joules.unwrap_or_default();
        joules.sum::<f64>() + ledger.idle_joules + ledger.ended_joules + unattributed
    }

    /// Joules and watts of a place.
    fn at(ledger: &Ledger, place: usize) -> (f64, Option<f64>) {
        (ledger.joules(place).unwrap(), ledger.watts(place))
    }

    fn reading(joules: f64, seconds: f64) -> Reading {
        Reading {
            joules,
            seconds,
            is_gap: false,
            age: 0.0,
            load: None,
        }
    }

    #[test]
    fn what_is_above_idle_is_shared_by_cpu_time() {
        let mut ledger = Ledger::new(Some(4.0));
        ledger.make_room(4);
        ledger.add_cpu(&[0, 0, 2 * SECOND, SECOND], 2.0);
        ledger.share(reading(20.0, 2.0), Some(4.0));
        assert_eq!(ledger.idle_joules, 8.0);
        assert_eq!(at(&ledger, 2), (8.0, Some(4.0)));
        assert_eq!(at(&ledger, 3), (4.0, Some(2.0)));
        assert_eq!(at(&ledger, SYSTEM), (0.0, Some(0.0)));
    }

    #[test]
    fn idle_takes_no_more_than_there_is() {
        let mut ledger = Ledger::new(Some(4.0));
        ledger.add_cpu(&[SECOND, 0], 1.0);
        ledger.share(reading(3.0, 1.0), Some(4.0));
        assert_eq!(
            (ledger.idle_joules, at(&ledger, SYSTEM)),
            (3.0, (0.0, Some(0.0)))
        );
    }

    #[test]
    fn while_idle_power_is_unknown_the_busy_part_is_shared() {
        let mut ledger = Ledger::new(None);
        ledger.make_room(3);
        ledger.add_cpu(&[0, 0, SECOND], 1.0);
        ledger.share(reading(10.0, 1.0), Some(4.0));
        assert_eq!(ledger.idle_watts(), None);
        assert_eq!(at(&ledger, 2), (2.5, Some(2.5)));
        assert_eq!(ledger.idle_joules, 7.5);
    }

    #[test]
    fn nothing_is_shared_while_the_number_of_processors_and_idle_power_are_unknown() {
        let mut ledger = Ledger::new(None);
        ledger.add_cpu(&[SECOND, 0], 1.0);
        ledger.share(reading(10.0, 1.0), None);
        assert_eq!((ledger.idle_joules, parts(&ledger)), (10.0, 10.0));
        let mut ledger = Ledger::new(Some(4.0));
        ledger.add_cpu(&[SECOND, 0], 1.0);
        ledger.share(reading(10.0, 1.0), None);
        assert_eq!(at(&ledger, SYSTEM), (6.0, Some(6.0)));
    }

    #[test]
    fn energy_above_idle_without_cpu_time_is_the_systems() {
        let mut ledger = Ledger::new(Some(1.0));
        ledger.make_room(3);
        ledger.share(reading(5.0, 1.0), Some(4.0));
        assert_eq!(at(&ledger, SYSTEM), (4.0, Some(4.0)));
        assert_eq!(parts(&ledger), 5.0);
    }

    #[test]
    fn gpu_is_shared_by_its_processes_and_is_nobodys_without_any() {
        let mut ledger = Ledger::of_gpu(Some(10.0));
        ledger.make_room(4);
        let gpu = |joules: f64, load: Option<f64>| Reading {
            load,
            ..reading(joules, 1.0)
        };
        ledger.add_cpu(&[0, 0, 3 * SECOND / 4, SECOND / 4], 1.0);
        ledger.share(gpu(50.0, Some(1.0)), None);
        assert_eq!(at(&ledger, 2), (30.0, Some(30.0)));
        assert_eq!(at(&ledger, 3), (10.0, Some(10.0)));
        assert_eq!(ledger.unattributed_power, Some(0.0));
        for load in [Some(0.9), None] {
            ledger.add_cpu(&[0; 4], 1.0);
            ledger.share(gpu(50.0, load), None);
            assert_eq!(ledger.unattributed_power, Some(40.0));
            assert_eq!(at(&ledger, SYSTEM), (0.0, Some(0.0)));
        }
        assert_eq!(ledger.unattributed_joules, Some(80.0));
        assert_eq!(parts(&ledger), 150.0);
    }

    #[test]
    fn time_of_processes_whose_use_is_not_available_is_unattributed() {
        let gpu = |load: Option<f64>| Reading {
            load,
            ..reading(50.0, 1.0)
        };
        for (load, workload) in [
            // Of 80 % of the time, half is one process's.
            (Some(0.8), 20.0),
            // One that says more than the GPU has all of it; so it has where the GPU does not say.
            (Some(0.3), 40.0),
            (Some(0.0), 40.0),
            (None, 40.0),
        ] {
            let mut ledger = Ledger::of_gpu(Some(10.0));
            ledger.make_room(3);
            ledger.add_gpu(&[0, 0, 2 * SECOND / 5], 1.0, true);
            ledger.share(gpu(load), None);
            assert!((at(&ledger, 2).0 - workload).abs() < 1e-9, "{load:?}");
            assert!((parts(&ledger) - 50.0).abs() < 1e-9);
            // The next second all are told.
            ledger.add_gpu(&[0, 0, 2 * SECOND / 5], 1.0, false);
            ledger.share(gpu(load), None);
            assert!((at(&ledger, 2).0 - workload - 40.0).abs() < 1e-9);
        }
    }

    #[test]
    fn gpu_of_unknown_idle_power_is_idle_for_the_time_in_which_it_is_not_busy() {
        for (load, used, idle) in [
            (Some(0.25), SECOND, 75.0),
            (Some(0.25), 0, 75.0),
            (Some(2.0), 0, 0.0),
            // Where it does not say, its processes do.
            (None, SECOND / 2, 50.0),
            (None, 0, 0.0),
        ] {
            let mut ledger = Ledger::of_gpu(None);
            ledger.make_room(3);
            ledger.add_cpu(&[0, 0, used], 1.0);
            let reading = Reading {
                load,
                ..reading(100.0, 1.0)
            };
            ledger.share(reading, None);
            assert_eq!(ledger.idle_joules, idle, "{load:?}, {used}");
            let (nobody, workload) = match used {
                0 => (100.0 - idle, 0.0),
                _ => (0.0, 100.0 - idle),
            };
            assert_eq!(ledger.unattributed_joules, Some(nobody));
            assert_eq!(ledger.joules(2), Some(workload));
        }
    }

    #[test]
    fn idle_power_of_a_gpu_is_learned_from_how_busy_it_says_to_be() {
        let mut random = Random::new(3);
        let mut ledger = Ledger::of_gpu(None);
        for second in 0..600 {
            let load = if second / 20 % 2 == 0 {
                0.1
            } else {
                random.unit()
            };
            let reading = Reading {
                load: Some(load),
                ..reading(30.0 + 200.0 * load, 1.0)
            };
            // No process is told of.
            ledger.add_cpu(&[0; 2], 1.0);
            ledger.share(reading, None);
        }
        let learned = ledger.idle_watts().unwrap();
        assert!((learned / 30.0 - 1.0).abs() < 0.03, "{learned}");
    }

    #[test]
    fn cpu_time_waits_for_a_meter_that_is_slow() {
        let mut ledger = Ledger::new(Some(0.0));
        ledger.make_room(4);
        ledger.add_cpu(&[0, 0, SECOND, 0], 1.0);
        ledger.add_cpu(&[0, 0, 0, SECOND], 1.0);
        ledger.share(reading(6.0, 2.0), Some(4.0));
        assert_eq!(at(&ledger, 2), (3.0, Some(1.5)));
        assert_eq!(at(&ledger, 3), (3.0, Some(1.5)));
    }

    #[test]
    fn cpu_time_waits_for_a_counter_that_moves_in_large_steps() {
        let mut ledger = Ledger::new(Some(1.0));
        ledger.make_room(4);
        for second in 0..60 {
            let place = 2 + second % 2;
            let mut nanos = [0; 4];
            nanos[place] = SECOND;
            ledger.add_cpu(&nanos, 1.0);
            let joules = if second == 59 { 180.0 } else { 0.0 };
            ledger.share(reading(joules, 1.0), Some(4.0));
        }
        assert_eq!(ledger.idle_joules, 60.0);
        assert_eq!(ledger.domain_watts, Some(3.0));
        assert_eq!(at(&ledger, 2), (60.0, Some(1.0)));
        assert_eq!(at(&ledger, 3), (60.0, Some(1.0)));
        // One that stands still for longer has counted nothing.
        for _ in 0..91 {
            ledger.share(reading(0.0, 1.0), Some(4.0));
        }
        assert_eq!(at(&ledger, 2), (60.0, Some(0.0)));
    }

    #[test]
    fn step_that_is_a_poll_late_has_the_idle_energy_of_the_whole_minute() {
        let mut ledger = Ledger::new(Some(1.0));
        for second in 0..62 {
            ledger.add_cpu(&[0, SECOND], 1.0);
            ledger.share(
                reading(if second == 61 { 180.0 } else { 0.0 }, 1.0),
                Some(4.0),
            );
        }
        assert_eq!(ledger.idle_joules, 62.0);
        assert_eq!(at(&ledger, OTHER), (118.0, Some(118.0 / 62.0)));
    }

    #[test]
    fn workload_has_no_power_until_the_domain_is_read() {
        let mut ledger = Ledger::new(Some(0.0));
        ledger.add_cpu(&[SECOND, 0], 1.0);
        assert_eq!(at(&ledger, SYSTEM), (0.0, None));
        ledger.share(reading(6.0, 1.0), Some(1.0));
        ledger.make_room(3);
        ledger.add_cpu(&[SECOND, 0, SECOND], 1.0);
        assert_eq!(at(&ledger, SYSTEM), (6.0, Some(6.0)));
        assert_eq!(at(&ledger, 2), (0.0, None));
        ledger.share(reading(0.0, 1.0), Some(1.0));
        assert_eq!(at(&ledger, 2), (0.0, None), "the counter stands still");
        ledger.share(reading(8.0, 1.0), Some(1.0));
        assert_eq!(at(&ledger, 2), (4.0, Some(2.0)));
        ledger.end(2, OTHER);
        ledger.share(reading(8.0, 1.0), Some(1.0));
        ledger.begin(2);
        assert_eq!(at(&ledger, 2), (0.0, None), "it is another's now");
    }

    #[test]
    fn ended_workload_leaves_its_place_and_its_energy_stays_in_the_sum() {
        let mut ledger = Ledger::new(Some(0.0));
        ledger.make_room(3);
        ledger.add_cpu(&[0, 0, SECOND], 1.0);
        ledger.share(reading(6.0, 1.0), Some(1.0));
        ledger.add_cpu(&[0, 0, SECOND], 1.0);
        ledger.end(2, OTHER);
        assert_eq!(ledger.ended_joules, 6.0);
        ledger.share(reading(2.0, 1.0), Some(1.0));
        assert_eq!(at(&ledger, 2), (0.0, Some(0.0)));
        assert_eq!(at(&ledger, OTHER), (2.0, Some(2.0)), "what it used last");
        assert_eq!(parts(&ledger), ledger.total_joules);
    }

    #[test]
    fn renamed_workload_keeps_the_time_that_waits_for_a_slow_meter() {
        let mut ledger = Ledger::new(Some(0.0));
        ledger.make_room(3);
        ledger.add_cpu(&[0, 0, SECOND], 1.0);
        ledger.end(2, 3);
        ledger.share(reading(6.0, 1.0), Some(1.0));
        assert_eq!(at(&ledger, 3), (6.0, Some(6.0)));
        assert_eq!(at(&ledger, OTHER), (0.0, Some(0.0)));
    }

    /// Starts, ends, meters that are slow, silent, reset or broken, and loads of every size.
    #[test]
    fn the_parts_are_the_whole_whatever_happens() {
        for seed in 1..=60 {
            let mut random = Random::new(seed);
            let given = (seed % 3 == 0).then(|| 10.0 * random.unit());
            let mut ledger = match seed % 2 {
                0 => Ledger::new(given),
                _ => Ledger::of_gpu(given),
            };
            let mut places = FIRST;
            let mut whole = 0.0;
            for _ in 0..400 {
                if random.below(5) == 0 && places < 40 {
                    places += 1;
                    ledger.make_room(places);
                }
                if random.below(4) == 0 && places > FIRST {
                    ledger.end(FIRST + random.below(places - FIRST), OTHER);
                }
                let mut nanos: Vec<u64> = (0..places)
                    .map(|_| random.next() >> (34 + random.below(20)))
                    .collect();
                if random.below(10) == 0 {
                    nanos.fill(0);
                }
                if random.below(50) == 0 {
                    nanos[SYSTEM] = u64::MAX;
                }
                ledger.add_cpu(&nanos, 0.1 + random.unit());
                let joules = match random.below(12) {
                    0 => continue,
                    1 => 0.0,
                    2 => -3.0,
                    3 => f64::NAN,
                    4 => 1e9 * random.unit(),
                    _ => 50.0 * random.unit(),
                };
                let seconds = match random.below(12) {
                    0 => 0.0,
                    1 => 3600.0,
                    _ => 0.1 + random.unit(),
                };
                ledger.share(
                    Reading {
                        joules,
                        seconds,
                        is_gap: seconds > 5.0,
                        age: random.unit(),
                        load: (random.below(3) > 0).then(|| 1.5 * random.unit() - 0.2),
                    },
                    Some(4.0),
                );
                whole += if joules > 0.0 { joules } else { 0.0 };
                let sum = parts(&ledger);
                assert!(
                    (sum - whole).abs() <= 1e-9 * whole.max(1.0),
                    "{sum} of {whole}, seed {seed}"
                );
                assert_eq!(ledger.total_joules, whole);
                assert!(ledger.accounts.iter().all(|account| account.joules >= 0.0));
                assert!(ledger.idle_joules >= 0.0 && ledger.idle_watts().is_none_or(|w| w >= 0.0));
            }
        }
    }

    /// A board whose load is of segments of random length and level, with a meter and CPU counters that are read once a second at
    /// times of their own and are inexact: what is learned in so many seconds.
    fn simulated(seed: u64, idle: f64, per_processor: f64, world: &World) -> Option<f64> {
        const STEP: f64 = 0.05;
        let mut random = Random::new(seed * 7919);
        (0..10).for_each(|_| {
            random.next();
        });
        let steps = (world.seconds / STEP) as usize + 100;
        let (mut cpu, mut energy) = (vec![0.0], vec![0.0]);
        let (mut left, mut level, mut flicker) = (0, 0.0, false);
        for _ in 0..steps {
            if let Some(period) = world.period {
                let is_high = (cpu.len() as f64 * STEP / period).fract() < 0.5;
                (left, level) = (1, if is_high { 0.9 } else { 0.1 });
            } else if left == 0 {
                left = 20 + random.below(400);
                flicker = random.below(2) == 0 && world.levels.is_empty();
                level = match world.levels {
                    [] => random.unit(),
                    levels => levels[random.below(levels.len())],
                };
            }
            left -= 1;
            let busy = world.processors * level * if flicker { random.unit() } else { 1.0 };
            cpu.push(cpu.last().unwrap() + busy * STEP);
            energy.push(energy.last().unwrap() + (idle + per_processor * busy) * STEP);
        }
        let until = |sums: &[f64], at: f64| {
            let place = at / STEP;
            let before = sums[place as usize];
            before + (sums[place as usize + 1] - before) * place.fract()
        };
        // Twelve numbers from 0 to 1 have a standard deviation of 1 together.
        let mut normal = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        let mut ledger = Ledger::new(None);
        let (mut last_meter, mut last_poll) = (1.0, 1.0 + world.phase);
        ledger.share(reading(0.0, 0.0), Some(world.processors));
        for second in 2..world.seconds as u32 {
            let meter = f64::from(second) + 0.01 * normal().clamp(-3.0, 3.0);
            let poll = f64::from(second) + world.phase + 0.01 * normal().clamp(-3.0, 3.0);
            let used = until(&cpu, poll) - until(&cpu, last_poll);
            let joules = until(&energy, meter - world.lag) - until(&energy, last_meter - world.lag);
            let used = used * (1.0 + world.cpu_noise * normal());
            ledger.add_cpu(&[0, (used * 1e9) as u64], poll - last_poll);
            let joules = joules * (1.0 + world.noise * normal());
            let mut reading = reading(joules, meter - last_meter);
            reading.age = (poll - meter).max(0.0);
            ledger.share(reading, Some(world.processors));
            assert!(ledger.idle_watts().is_none_or(|watts| watts >= 0.0));
            (last_meter, last_poll) = (meter, poll);
        }
        ledger.idle_watts()
    }

    #[derive(Clone, Copy)]
    struct World {
        processors: f64,
        /// Parts of full load; none: any.
        levels: &'static [f64],
        /// A load of two levels has this period, in seconds.
        period: Option<f64>,
        noise: f64,
        cpu_noise: f64,
        /// How long after the meter CPU time is read.
        phase: f64,
        /// How late the meter's own reading is, which nobody knows.
        lag: f64,
        seconds: f64,
    }

    const WORLD: World = World {
        processors: 4.0,
        levels: &[],
        period: None,
        noise: 0.01,
        cpu_noise: 0.0,
        phase: 0.0,
        lag: 0.0,
        seconds: 300.0,
    };

    #[test]
    fn learned_idle_power_is_within_3_percent_after_five_minutes_or_unknown() {
        // A board of 4 processors, one of 1, and a server.
        for (idle, per_processor, processors) in
            [(2.6, 1.0, 4.0), (2.6, 1.5, 1.0), (40.0, 4.0, 16.0)]
        {
            for (noise, cpu_noise, phase, lag, fewest) in [
                (0.0, 0.0, 0.0, 0.0, 20),
                (0.01, 0.0, 0.0, 0.0, 20),
                (0.02, 0.01, 0.5, 0.0, 20),
                (0.01, 0.02, 0.9, 0.0, 20),
                // Nobody can know of this misalignment.
                (0.01, 0.01, 0.2, 0.5, 10),
                (0.02, 0.0, 0.8, 1.0, 0),
            ] {
                for levels in [&[][..], &[0.1, 0.9]] {
                    let world = World {
                        processors,
                        levels,
                        noise,
                        cpu_noise,
                        phase,
                        lag,
                        ..WORLD
                    };
                    let learned = (1..=20).map(|seed| simulated(seed, idle, per_processor, &world));
                    let known: Vec<f64> = learned.flatten().collect();
                    for watts in &known {
                        let off = watts / idle - 1.0;
                        assert!(off.abs() <= 0.03, "{watts} of {idle}: noise {noise}, phase {phase}, lag {lag}, {levels:?}");
                    }
                    let fewest = if levels.is_empty() { fewest } else { 0 };
                    assert!(
                        known.len() >= fewest,
                        "{}: noise {noise}, phase {phase}, lag {lag}, {levels:?}",
                        known.len()
                    );
                }
            }
        }
    }

    #[test]
    fn learned_idle_power_of_a_periodic_load_is_right_or_unknown() {
        for period in [2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0, 60.0] {
            for (phase, lag) in [(0.0, 0.0), (0.2, 0.0), (0.4, 0.0), (0.7, 0.0), (0.3, 0.3)] {
                let world = World {
                    period: Some(period),
                    cpu_noise: 0.01,
                    phase,
                    lag,
                    ..WORLD
                };
                let learned: Vec<_> = (1..=5)
                    .filter_map(|seed| simulated(seed, 2.6, 1.0, &world))
                    .collect();
                for watts in &learned {
                    let off = (watts / 2.6 - 1.0).abs();
                    assert!(
                        off <= 0.05,
                        "{watts}: period {period}, phase {phase}, lag {lag}"
                    );
                }
                assert!(
                    learned.len() == 5 || period < 60.0,
                    "period {period}, phase {phase}"
                );
            }
        }
    }

    #[test]
    fn idle_power_is_learned_from_a_counter_that_moves_once_a_minute() {
        let mut random = Random::new(9);
        let mut ledger = Ledger::new(None);
        for _ in 0..60 {
            let busy = 4.0 * random.unit();
            for second in 0..60 {
                let joules = if second == 59 {
                    60.0 * (2.6 + busy)
                } else {
                    0.0
                };
                ledger.add_cpu(&[0, (busy * 1e9) as u64], 1.0);
                ledger.share(reading(joules, 1.0), Some(4.0));
            }
        }
        let learned = ledger.idle_watts().unwrap();
        assert!((learned / 2.6 - 1.0).abs() < 0.03, "{learned}");
    }

    #[test]
    fn learned_idle_power_of_constant_load_is_unknown() {
        for level in [0.0, 0.01, 0.5, 1.0] {
            let levels: &'static [f64] = Box::leak(Box::new([level]));
            for (noise, cpu_noise) in [(0.0, 0.0), (0.02, 0.0), (0.02, 0.02)] {
                let world = World {
                    levels,
                    noise,
                    cpu_noise,
                    phase: 0.4,
                    seconds: 900.0,
                    ..WORLD
                };
                for seed in 1..=10 {
                    assert_eq!(simulated(seed, 2.6, 1.0, &world), None, "{level}");
                }
            }
        }
    }

    #[test]
    fn known_load_under_a_meter_that_follows_it_is_attributed_within_2_percent() {
        let mut random = Random::new(11);
        let mut ledger = Ledger::new(None);
        ledger.make_room(4);
        let mut expected = [0.0; 2];
        for second in 0..3600 {
            let load = match second / 30 % 3 {
                0 => 0.05,
                1 => 1.0,
                _ => random.unit(),
            };
            let nanos = [0, 0, (load * 2e9) as u64, (load * 1e9) as u64];
            ledger.add_cpu(&nanos, 1.0);
            ledger.share(reading(3.0 + 2.0 * (load * 3.0), 1.0), Some(4.0));
            expected[0] += 2.0 * load * 2.0;
            expected[1] += 2.0 * load;
            if second == 300 {
                let learned = ledger.idle_watts().unwrap();
                assert!((learned / 3.0 - 1.0).abs() < 0.03, "{learned}");
                // What was shared before it was known is another matter.
                ledger.end(2, OTHER);
                ledger.end(3, OTHER);
                expected = [0.0; 2];
            }
        }
        for (place, expected) in [(2, expected[0]), (3, expected[1])] {
            let joules = ledger.joules(place).unwrap();
            assert!(
                (joules / expected - 1.0).abs() < 0.02,
                "{joules} of {expected}"
            );
        }
    }
}
