//! Idle power, learned: a line through power over the processors that are busy, and what it says where none is. Pure.
//!
//! Least squares with weights that fade ([`MEMORY`]), so that a board whose idle power changes is learned anew. A line is an
//! answer only if the load has varied enough and explains the power; else idle power is unknown.

/// The seconds after which a sample weighs 1/e of a new one.
const MEMORY: f64 = 3600.0;
/// The fewest seconds and samples from which a line is an answer.
const MIN_SECONDS: f64 = 60.0;
const MIN_SAMPLES: f64 = 15.0;
/// The least standard deviation of the number of busy processors, in processors, and as a part of its mean. Further than five
/// standard deviations from its samples a line is no answer.
const MIN_SPREAD: f64 = 0.05;
const MIN_RELATIVE_SPREAD: f64 = 0.2;
/// The least part of the power's variance that the load has to explain.
const MIN_QUALITY: f64 = 0.5;
/// The standard error of the answer must be less than this part of the mean power.
const MAX_RELATIVE_ERROR: f64 = 0.05;

/// The line so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdleFit {
    seconds: f64,
    /// Sums of the weights and of their squares.
    weight: f64,
    weight_squared: f64,
    mean_busy: f64,
    mean_watts: f64,
    /// Weighted sums of squared and mixed deviations.
    busy_busy: f64,
    busy_watts: f64,
    watts_watts: f64,
}

impl IdleFit {
    /// Over so many seconds the mean power was `watts`, and so many processors were busy.
    pub(super) fn add(&mut self, seconds: f64, busy: f64, watts: f64) {
        let is_usable = |value: f64| value.is_finite() && value >= 0.0;
        if seconds <= 0.0 || ![seconds, busy, watts].into_iter().all(is_usable) {
            return;
        }
        let kept = (-seconds / MEMORY).exp();
        self.seconds += seconds;
        self.weight *= kept;
        self.weight_squared *= kept * kept;
        self.busy_busy *= kept;
        self.busy_watts *= kept;
        self.watts_watts *= kept;
        // West's update of means and sums of deviations, which stays exact where values are large and vary little.
        self.weight += seconds;
        self.weight_squared += seconds * seconds;
        let part = seconds / self.weight;
        let (off_busy, off_watts) = (busy - self.mean_busy, watts - self.mean_watts);
        self.mean_busy += part * off_busy;
        self.mean_watts += part * off_watts;
        self.busy_busy += seconds * off_busy * (busy - self.mean_busy);
        self.busy_watts += seconds * off_busy * (watts - self.mean_watts);
        self.watts_watts += seconds * off_watts * (watts - self.mean_watts);
    }

    /// How much of the power's variance the load explains, from 0 to 1; `None` where one of both does not vary.
    pub(super) fn quality(&self) -> Option<f64> {
        let product = self.busy_busy * self.watts_watts;
        let quality = self.busy_watts * self.busy_watts / product;
        (product > 0.0 && quality.is_finite()).then(|| quality.min(1.0))
    }

    /// The standard error of the power where no processor is busy, in watts.
    pub(super) fn error(&self) -> Option<f64> {
        let samples = self.samples();
        if self.busy_busy <= 0.0 || samples <= 2.0 {
            return None;
        }
        let rest = self.watts_watts - self.busy_watts * self.busy_watts / self.busy_busy;
        let variance = rest.max(0.0) / self.weight * samples / (samples - 2.0);
        let spread = self.busy_busy / self.weight;
        let error = (variance / samples * (1.0 + self.mean_busy * self.mean_busy / spread)).sqrt();
        error.is_finite().then_some(error)
    }

    /// Power where no processor is busy, in watts, not below 0; `None`: unknown.
    pub(super) fn watts(&self) -> Option<f64> {
        let spread = (self.busy_busy / self.weight).sqrt();
        let is_enough = self.seconds >= MIN_SECONDS && self.samples() >= MIN_SAMPLES;
        // A NaN is not enough either.
        let varies = spread >= MIN_SPREAD && spread >= MIN_RELATIVE_SPREAD * self.mean_busy;
        if !is_enough || !varies || self.quality()? < MIN_QUALITY {
            return None;
        }
        let slope = self.busy_watts / self.busy_busy;
        if self.error()? > MAX_RELATIVE_ERROR * self.mean_watts || slope <= 0.0 {
            return None;
        }
        let watts = self.mean_watts - slope * self.mean_busy;
        // A line that meets the axis well below 0 is that of a curve.
        (watts >= -MAX_RELATIVE_ERROR * self.mean_watts).then(|| watts.max(0.0))
    }

    /// How many samples of equal weight would say as much.
    fn samples(&self) -> f64 {
        match self.weight_squared > 0.0 {
            true => self.weight * self.weight / self.weight_squared,
            false => 0.0,
        }
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
            fit.add(1.0, busy, idle + 1.8 * busy + noise);
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
        (0..1000).for_each(|_| exact.add(1.0, 2.0, 10.0));
        assert_eq!(exact.watts(), None);
        assert_eq!(exact.quality(), None);
    }

    #[test]
    fn load_that_does_not_explain_the_power_says_unknown() {
        let mut random = Random::new(3);
        let mut fit = IdleFit::default();
        for _ in 0..1000 {
            fit.add(1.0, 4.0 * random.unit(), 100.0 * random.unit());
        }
        assert_eq!(fit.watts(), None);
        let mut falling = IdleFit::default();
        for second in 0..1000 {
            let busy = f64::from(second % 5);
            falling.add(1.0, busy, 50.0 - busy);
        }
        assert_eq!(falling.watts(), None, "power that falls with load");
    }

    #[test]
    fn it_is_never_negative_and_bad_samples_are_none() {
        let mut fit = IdleFit::default();
        for second in 0..600 {
            // A curve whose line meets the axis below 0.
            let busy = 1.0 + f64::from(second % 4);
            fit.add(1.0, busy, busy * busy);
            for (seconds, busy, watts) in [
                (f64::NAN, 1.0, 1.0),
                (1.0, f64::INFINITY, 1.0),
                (1.0, 1.0, -5.0),
                (0.0, 1.0, 1.0),
            ] {
                fit.add(seconds, busy, watts);
            }
        }
        assert_eq!(fit.watts(), None);
        assert!(fit.quality().unwrap() > 0.9);
        let near = learned(0.0, 300, |second, _| f64::from(second % 4));
        assert!(near
            .watts()
            .is_some_and(|watts| (0.0..0.1).contains(&watts)));
    }

    #[test]
    fn a_changed_board_is_learned_anew() {
        let mut fit = learned(4.0, 600, |second, _| f64::from(second % 4));
        for second in 0..20_000 {
            let busy = f64::from(second % 4);
            fit.add(1.0, busy, 6.0 + 1.8 * busy);
        }
        assert!((fit.watts().unwrap() - 6.0).abs() < 0.1);
    }
}
