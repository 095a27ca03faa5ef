//! Idle power, learned: a line through power over the processors that are busy, and what it says where none is. Pure.
//!
//! Four things would make a plain line wrong, and each has its answer here.
//!
//! * **The meter and the CPU counters are not read at the same moment**, so that a sample's load is partly that of the sample before.
//!   Samples are added up to blocks, in which the ends matter less.
//! * **What is left of it flattens the line** (errors in variables), and noise of the meter does not: least squares of power over load
//!   have the true line on one side, and those of load over power on the other (Frisch's bounds). Idle power is in the middle of both,
//!   and half of their distance is part of the error.
//! * **A load that changes from sample to sample** makes neither too flat but too steep: CPU time that is interpolated to the meter's
//!   reading varies less than it did. How much the load changes from block to block is therefore part of the error ([`BLUR`]).
//! * **Power is no line where the clock follows the load.** A parabola is taken where it fits clearly better.
//!
//! An answer whose error is too large is none: idle power is unknown. Weights fade ([`MEMORY`]), so that a board whose idle power
//! changes is learned anew.

/// The seconds after which a sample weighs 1/e of a new one.
const MEMORY: f64 = 3600.0;
/// Samples are added up until they are as long as this, in seconds: short blocks see a load that changes fast, long ones suffer less
/// from readings that are not simultaneous. The length with the least error has the answer.
const BLOCKS: [f64; 3] = [1.0, 10.0, 60.0];
/// The fewest blocks and seconds from which a line is an answer.
const MIN_BLOCKS: f64 = 12.0;
const MIN_SECONDS: f64 = 60.0;
/// The least standard deviation of the number of busy processors, in processors, and as a part of its mean. Further than five
/// standard deviations from its samples a line is no answer.
const MIN_SPREAD: f64 = 0.05;
const MIN_RELATIVE_SPREAD: f64 = 0.2;
/// The error of an answer is at most this part of it, or this part of the mean power, where idle power is but little of it.
const MAX_ERROR: f64 = 0.025;
const MAX_ERROR_OF_MEAN: f64 = 0.01;
/// The error that misalignment makes, as a part of the power above idle, where each block's load says nothing of the next one's and a
/// block is as long as CPU time is interpolated over. Of simulated loads with periods from 2 s to a minute, this one has no idle power
/// published that is off by more than 3 %.
const BLUR: f64 = 1.0 / 16.0;
/// A parabola fits better if its bend is as many standard errors away from none.
const CLEAR_BEND: f64 = 3.0;

/// What was learned so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdleFit {
    curves: [Curve; BLOCKS.len()],
    /// The answer with the least error, one that is known if there is any.
    best: Option<Answer>,
}

/// A line or parabola through blocks of one length.
#[derive(Debug, Clone, Copy, Default)]
struct Curve {
    /// The block that is not full yet.
    block: Block,
    /// Sums of the weights' squares, and of the weights times busy processors to the power of 0 to 4.
    weight_squared: f64,
    busy: [f64; 5],
    /// Sums of the weights times power times busy processors to the power of 0 to 2.
    watts: [f64; 3],
    watts_watts: f64,
    /// The number of busy processors in the last block, and the weighted sum of squared changes from block to block.
    last_busy: Option<f64>,
    changes: f64,
    /// Which part of the last block was the time between two readings of the CPU counters.
    blurred: f64,
    answer: Option<Answer>,
}

/// Samples that are added up.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    seconds: f64,
    cpu_seconds: f64,
    joules: f64,
}

/// What the samples say.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// Power where no processor is busy.
    watts: f64,
    /// What it may be off by: half of the distance of the bounds, two standard errors, and what a fast load blurs.
    error: f64,
    /// How much of the power's variance the load explains.
    quality: f64,
    is_known: bool,
}

impl IdleFit {
    /// Over so many seconds the mean power was `watts`, and so many processors were busy. CPU time was read every `poll` seconds.
    pub(super) fn add(&mut self, seconds: f64, busy: f64, watts: f64, poll: f64) {
        let is_usable = |value: f64| value.is_finite() && value >= 0.0;
        if seconds <= 0.0 || ![seconds, busy, watts].into_iter().all(is_usable) {
            return;
        }
        for (curve, length) in self.curves.iter_mut().zip(BLOCKS) {
            curve.block.seconds += seconds;
            curve.block.cpu_seconds += seconds * busy;
            curve.block.joules += seconds * watts;
            if curve.block.seconds >= length {
                let block = std::mem::take(&mut curve.block);
                curve.blurred = (poll / block.seconds).clamp(0.0, 1.0);
                curve.add(block);
                curve.answer = curve.solve();
            }
        }
        let answers = self.curves.iter().filter_map(|curve| curve.answer);
        self.best = answers.min_by(|a, b| {
            let known_first = b.is_known.cmp(&a.is_known);
            known_first.then(a.error.total_cmp(&b.error))
        });
    }

    /// How much of the power's variance the load explains, from 0 to 1; `None` where one of both does not vary.
    pub(super) fn quality(&self) -> Option<f64> {
        self.best.map(|answer| answer.quality)
    }

    /// What the power where no processor is busy may be off by, in watts.
    pub(super) fn error(&self) -> Option<f64> {
        self.best.map(|answer| answer.error)
    }

    /// Power where no processor is busy, in watts, not below 0; `None`: unknown.
    pub(super) fn watts(&self) -> Option<f64> {
        let answer = self.best.filter(|answer| answer.is_known)?;
        Some(answer.watts.max(0.0))
    }
}

impl Curve {
    fn add(&mut self, block: Block) {
        let seconds = block.seconds;
        let (busy, watts) = (block.cpu_seconds / seconds, block.joules / seconds);
        let kept = (-seconds / MEMORY).exp();
        self.weight_squared = self.weight_squared * kept * kept + seconds * seconds;
        self.watts_watts = self.watts_watts * kept + seconds * watts * watts;
        let change = busy - self.last_busy.replace(busy).unwrap_or(busy);
        self.changes = self.changes * kept + seconds * change * change;
        let mut power = seconds;
        for (i, sum) in self.busy.iter_mut().enumerate() {
            *sum = *sum * kept + power;
            if let Some(mixed) = self.watts.get_mut(i) {
                *mixed = *mixed * kept + power * watts;
            }
            power *= busy;
        }
    }

    /// `None` where there are too few samples, or where they do not vary.
    fn solve(&self) -> Option<Answer> {
        let [weight, x1, x2, x3, x4] = self.busy;
        let [y, xy, x2y] = self.watts;
        // How many blocks of equal weight would say as much.
        let blocks = weight * weight / self.weight_squared;
        if blocks < 4.0 {
            return None;
        }
        // Means, and means of squared and mixed deviations, of the load (u), its square (v), and the power (y).
        let (u, v, mean_watts) = (x1 / weight, x2 / weight, y / weight);
        let (uu, vv) = (x2 / weight - u * u, x4 / weight - v * v);
        let uv = x3 / weight - u * v;
        let (uy, vy) = (xy / weight - u * mean_watts, x2y / weight - v * mean_watts);
        let yy = self.watts_watts / weight - mean_watts * mean_watts;
        let tiny = 1e-12;
        if uu <= tiny * v || yy <= tiny * mean_watts * mean_watts {
            return None;
        }
        let slope = uy / uu;
        let mut rest = (yy - slope * uy).max(tiny * yy);
        let mut watts = mean_watts - slope * u;
        let mut variance = rest / (blocks - 2.0) * (1.0 + u * u / uu);
        let mut rises = slope > 0.0;
        let area = uu * vv - uv * uv;
        if area > 1e-6 * uu * vv {
            let first = (uy * vv - vy * uv) / area;
            let bend = (vy * uu - uy * uv) / area;
            let left = (yy - first * uy - bend * vy).max(tiny * yy);
            let each = left / (blocks - 3.0);
            if bend * bend > CLEAR_BEND * CLEAR_BEND * each * uu / area {
                rest = left;
                watts = mean_watts - first * u - bend * v;
                variance = each * (1.0 + (u * u * vv - 2.0 * u * v * uv + v * v * uu) / area);
                rises = first > 0.0;
            }
        }
        let quality = 1.0 - rest / yy;
        // Half of the way to the line of load over power.
        let half = (1.0 / quality - 1.0) * (mean_watts - watts) / 2.0;
        let watts = watts - half;
        // 0 for a load that never changes, 1 for one that is random in each block, 2 for one that alternates.
        let roughness = self.changes / weight / (2.0 * uu);
        let blur = BLUR * roughness * self.blurred * (mean_watts - watts).abs();
        let error = half.abs() + 2.0 * variance.sqrt() + blur;
        if ![watts, error, quality].into_iter().all(f64::is_finite) {
            return None;
        }
        let spread = uu.sqrt();
        let varies = spread >= MIN_SPREAD && spread >= MIN_RELATIVE_SPREAD * u;
        let is_enough = blocks >= MIN_BLOCKS && weight >= MIN_SECONDS;
        let most = (MAX_ERROR * watts).max(MAX_ERROR_OF_MEAN * mean_watts);
        Some(Answer {
            watts,
            error,
            quality,
            // A line that meets the axis below 0 by more than its error is that of something else.
            is_known: rises && varies && is_enough && error <= most && watts >= -error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::workloads::testing::Random;

    /// The fit of a board of 4 processors that idles at `idle` watts, after so many seconds.
    fn learned(idle: f64, seconds: u32, load: impl Fn(u32, &mut Random) -> f64) -> IdleFit {
        let mut random = Random::new(7);
        let mut fit = IdleFit::default();
        for second in 0..seconds {
            let busy = load(second, &mut random);
            let noise = (random.unit() - 0.5) * 0.1;
            fit.add(1.0, busy, idle + 1.8 * busy + noise, 1.0);
        }
        fit
    }

    #[test]
    fn idle_power_is_learned_within_3_percent_in_five_minutes_of_mixed_load() {
        for idle in [0.8, 4.0, 35.0] {
            let fit = learned(idle, 300, |second, random| match second / 20 % 3 {
                0 => 0.1 + 0.1 * random.unit(),
                1 => 3.5 * random.unit(),
                _ => 1.0 + random.unit(),
            });
            let watts = fit.watts().expect("it is known");
            assert!((watts / idle - 1.0).abs() < 0.03, "{watts} of {idle}");
            assert!(fit.quality().unwrap() > 0.9);
            assert!(fit.error().unwrap() < 0.03 * idle);
        }
    }

    #[test]
    fn constant_load_says_unknown() {
        for busy in [0.0, 0.02, 1.0, 4.0] {
            let fit = learned(4.0, 3600, |_, random| busy * (1.0 + 0.01 * random.unit()));
            assert_eq!(fit.watts(), None, "{busy}");
        }
        let mut exact = IdleFit::default();
        (0..1000).for_each(|_| exact.add(1.0, 2.0, 10.0, 1.0));
        assert_eq!(exact.watts(), None);
        assert_eq!(exact.quality(), None);
    }

    #[test]
    fn load_that_does_not_explain_the_power_says_unknown() {
        let mut random = Random::new(3);
        let mut fit = IdleFit::default();
        for _ in 0..1000 {
            fit.add(1.0, 4.0 * random.unit(), 100.0 * random.unit(), 1.0);
        }
        assert_eq!(fit.watts(), None);
        let mut falling = IdleFit::default();
        for second in 0..1000 {
            let busy = f64::from(second % 5);
            falling.add(1.0, busy, 50.0 - busy, 1.0);
        }
        assert_eq!(falling.watts(), None, "power that falls with load");
    }

    #[test]
    fn it_is_never_negative_and_bad_samples_are_none() {
        let mut fit = IdleFit::default();
        for second in 0..600 {
            // A curve that falls before it rises.
            let busy = 1.0 + f64::from(second % 4);
            fit.add(1.0, busy, (busy - 2.0) * (busy - 1.5), 1.0);
            for (seconds, busy, watts) in [
                (f64::NAN, 1.0, 1.0),
                (1.0, f64::INFINITY, 1.0),
                (1.0, 1.0, -5.0),
                (0.0, 1.0, 1.0),
            ] {
                fit.add(seconds, busy, watts, 1.0);
            }
        }
        assert_eq!(fit.watts(), None);
        assert!(fit.quality().unwrap() > 0.9);
        let near = learned(0.0, 300, |second, _| f64::from(second / 20 % 4));
        assert!(near
            .watts()
            .is_some_and(|watts| (0.0..0.1).contains(&watts)));
    }

    #[test]
    fn power_that_follows_the_clock_is_a_curve() {
        for bend in [0.6, -0.25] {
            let mut random = Random::new(5);
            let mut fit = IdleFit::default();
            for second in 0..300 {
                let busy = if second / 10 % 2 == 0 { 0.1 } else { 1.0 } * 4.0 * random.unit();
                let noise = 1.0 + (random.unit() - 0.5) * 0.03;
                let watts = 3.0 + 1.5 * busy * (1.0 + bend * busy / 4.0);
                fit.add(1.0, busy, watts * noise, 1.0);
            }
            let watts = fit.watts().expect("it is known");
            assert!((watts / 3.0 - 1.0).abs() < 0.03, "{watts}, bend {bend}");
        }
    }

    #[test]
    fn a_changed_board_is_learned_anew() {
        let mut fit = learned(4.0, 600, |second, _| f64::from(second / 20 % 4));
        for second in 0..20_000 {
            let busy = f64::from(second / 20 % 4);
            fit.add(1.0, busy, 6.0 + 1.8 * busy, 1.0);
        }
        assert!((fit.watts().unwrap() - 6.0).abs() < 0.1);
    }
}
