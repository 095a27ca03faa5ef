//! Tests of `runner`.

use super::*;
use crate::config::Switch;
use crate::metrics::Desc;
use crate::sources::nvidia::settings::Settings;
use crate::sources::testing::{Bench, Tree};

/// A source whose device sends something every millisecond.
struct FastDevice(Context);

impl Source for FastDevice {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let series = self.0.group.series(&Desc::gauge("fast", ""), &[]);
        out.set(series, 1.0);
        let next = Instant::now() + Duration::from_millis(1);
        self.0.stop.wait_until(next);
        Ok(())
    }
}

static METER: Meter = Meter {
    pace: Pace::Device,
    ..Meter::of::<Settings>(
        "fast",
        "",
        |_| Switch::On,
        |_, _| Ok(String::new()),
        |context| Ok(Box::new(FastDevice(context.clone()))),
    )
};

#[test]
fn watchdog_starts_a_missing_thread_of_a_source_that_waits_for_its_device() {
    let tree = Tree::new(&[]);
    let bench = Bench::new(&METER, &tree, crate::config::Config::default());
    let context = bench.context.clone();
    let running = RunningSource {
        shared: Arc::new(Shared {
            meter: &METER,
            name: METER.name.to_string(),
            context: context.clone(),
            generation: AtomicU64::new(0),
        }),
        thread: Mutex::new(None),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while context.group.read_at().is_none() {
        assert!(Instant::now() < deadline, "the source is never polled");
        running.restart_if_stuck(BootTime::now());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.stop();
    running.join(deadline);
}
