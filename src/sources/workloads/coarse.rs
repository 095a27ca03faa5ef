//! Energy between the steps of a counter that moves seldom: a plug that counts 1 Wh moves its counter every 12 minutes at 5 W. Pure.
//!
//! Where such a meter gives power as well, the energy of each reading is power times time. The counter keeps the sum right. Each step says
//! by which factor power is off, since many plugs show whole watts, and the sum is at most one step ahead of the counter or behind
//! it. That is what the counter itself is rounded to.

/// A counter that stands still for longer than this many seconds, while there is power, is coarse. Meters that count once a minute by a
/// clock of their own are not: the next step may be a poll or more late.
pub(super) const LONGEST_STEP: f64 = 90.0;
/// Power that is off by more than this factor is none of what the counter counts.
const MAX_FACTOR: f64 = 2.0;

/// A counter, and the energy that was taken in its place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coarse {
    is_coarse: bool,
    /// How long the counter has stood still, in seconds, and power times time meanwhile, in joules.
    still: f64,
    drawn: f64,
    /// By how much the energy that was taken is ahead of the counter, in joules.
    ahead: f64,
    /// The largest step, in joules; 0 before the first.
    step: f64,
    /// Power times time since the last step, in joules; `None`: it is not known of all of that time.
    since_step: Option<f64>,
    /// What the counter counted for each joule of power times time; `None` before two steps.
    factor: Option<f64>,
    last_watts: Option<f64>,
}

impl Coarse {
    /// The energy of one reading, in joules. The counter has moved by `counted` joules since the last one, which was so many seconds
    /// before, and the power is `watts` now. After a gap the counter alone knows what was drawn.
    pub(super) fn joules(
        &mut self,
        counted: f64,
        watts: Option<f64>,
        seconds: f64,
        is_gap: bool,
    ) -> f64 {
        let watts = watts.filter(|watts| watts.is_finite()).map(|w| w.max(0.0));
        let last = std::mem::replace(&mut self.last_watts, watts);
        if is_gap {
            (self.still, self.drawn, self.since_step) = (0.0, 0.0, None);
            return counted;
        }
        let drawn = watts.map(|now| (now + last.unwrap_or(now)) / 2.0 * seconds);
        self.calibrate(counted, drawn);
        if !self.is_coarse {
            return self.watch(counted, drawn, seconds);
        }
        self.step = self.step.max(counted);
        self.ahead -= counted;
        let wanted = self.ahead + drawn.unwrap_or(0.0) * self.factor.unwrap_or(1.0);
        let most = match self.step > 0.0 {
            true => self.step,
            false => f64::INFINITY,
        };
        let taken = (wanted.clamp(-most, most) - self.ahead).max(0.0);
        self.ahead += taken;
        taken
    }

    /// Compares what was counted from one step to the next with power times time.
    fn calibrate(&mut self, counted: f64, drawn: Option<f64>) {
        self.since_step = self.since_step.zip(drawn).map(|(sum, drawn)| sum + drawn);
        if counted > 0.0 {
            let drawn = self.since_step.replace(0.0).filter(|drawn| *drawn > 0.0);
            let factor = drawn.map(|drawn| (counted / drawn).clamp(1.0 / MAX_FACTOR, MAX_FACTOR));
            self.factor = factor.or(self.factor);
        }
    }

    /// Follows the counter until it is found to be coarse. What was drawn since its last step is taken then.
    fn watch(&mut self, counted: f64, drawn: Option<f64>, seconds: f64) -> f64 {
        if counted > 0.0 {
            (self.still, self.drawn) = (0.0, 0.0);
            self.step = self.step.max(counted);
            return counted;
        }
        self.still += seconds;
        self.drawn += drawn.unwrap_or(0.0);
        self.is_coarse = self.still > LONGEST_STEP && self.drawn > 0.0;
        if !self.is_coarse {
            return 0.0;
        }
        self.ahead = self.drawn;
        self.drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::workloads::testing::Random;

    /// What is taken in so many seconds of a plug that counts in steps, shows power that is off by a factor, and draws so much.
    fn taken(
        coarse: &mut Coarse,
        step: f64,
        factor: f64,
        seconds: u32,
        mut watts: impl FnMut(u32) -> f64,
    ) -> (Vec<f64>, f64) {
        let mut drawn = 0.6 * step;
        let mut counted = 0.0;
        let mut all = Vec::new();
        for second in 0..seconds {
            let now = watts(second);
            drawn += now;
            let total = (drawn / step).floor() * step;
            all.push(coarse.joules(total - counted, Some(factor * now), 1.0, false));
            counted = total;
        }
        (all, counted)
    }

    #[test]
    fn power_is_taken_between_the_steps_and_the_counter_keeps_the_sum() {
        let level = |second: u32| if second / 300 % 2 == 0 { 3.4 } else { 8.6 };
        for (step, factor) in [(3600.0, 1.0), (3600.0, 1.1), (3600.0, 0.9), (36_000.0, 1.0)] {
            let mut coarse = Coarse::default();
            let (all, counted) = taken(&mut coarse, step, factor, 20_000, level);
            let sum: f64 = all.iter().sum();
            assert!((sum - counted).abs() <= step * 1.001, "{sum} of {counted}");
            // Once there were two steps, each second has its own power.
            let seconds = (2000..20_000).filter(|second| second % 300 > 0);
            let off = |second: &u32| (all[*second as usize] / level(*second) - 1.0).abs() > 0.02;
            let bad = seconds.filter(off).count();
            assert!(bad <= 20, "{bad} with {step}, {factor}");
        }
    }

    #[test]
    fn counter_that_moves_in_time_is_followed_exactly() {
        // By a clock of its own, once a minute; and in steps of 1 Wh at 100 W.
        for (step, watts) in [(300.0, 5.0), (3600.0, 100.0), (0.01, 5.0)] {
            let mut coarse = Coarse::default();
            let (all, counted) = taken(&mut coarse, step, 1.1, 5000, |_| watts);
            assert_eq!(all.iter().sum::<f64>(), counted);
        }
    }

    #[test]
    fn without_power_the_counter_is_all_there_is() {
        let mut coarse = Coarse::default();
        for second in 1..=2000 {
            let counted = if second % 500 == 0 { 3600.0 } else { 0.0 };
            assert_eq!(coarse.joules(counted, None, 1.0, false), counted);
        }
        // Nothing is drawn, and nothing counted.
        for _ in 0..200 {
            assert_eq!(coarse.joules(0.0, Some(0.0), 1.0, false), 0.0);
        }
    }

    #[test]
    fn counter_that_stops_is_left_by_no_more_than_a_step_and_a_gap_is_the_counters() {
        let mut coarse = Coarse::default();
        taken(&mut coarse, 3600.0, 1.0, 3000, |_| 5.0);
        let more: f64 = (0..10_000)
            .map(|_| coarse.joules(0.0, Some(5.0), 1.0, false))
            .sum();
        assert!(more <= 2.0 * 3600.0, "{more}");
        assert_eq!(coarse.joules(7200.0, Some(5.0), 600.0, true), 7200.0);
        assert_eq!(coarse.joules(0.0, Some(f64::NAN), 1.0, false), 0.0);
    }

    #[test]
    fn it_is_never_negative_and_ends_within_a_step_whatever_happens() {
        for seed in 1..=40 {
            let mut random = Random::new(seed);
            let mut coarse = Coarse::default();
            let (mut sum, mut counted, mut largest) = (0.0, 0.0, 3600.0f64);
            for _ in 0..3000 {
                let step = match random.below(200) {
                    0 => 3600.0 * (1 + random.below(3)) as f64,
                    _ => 0.0,
                };
                let watts = (random.below(20) > 0).then(|| 40.0 * random.unit() - 1.0);
                let is_gap = random.below(300) == 0;
                let taken = coarse.joules(step, watts, 1.0, is_gap);
                assert!(taken >= 0.0);
                (sum, counted) = (sum + taken, counted + step);
                largest = largest.max(step);
                // Before the first step nothing says how large it is.
                if counted > 0.0 {
                    let off: f64 = sum - counted;
                    assert!(off >= -largest - 1e-6, "{off}, seed {seed}");
                }
            }
        }
    }
}
