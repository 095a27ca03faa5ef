//! Tests of `runner`.

use super::*;
use crate::config::Switch;
use crate::metrics::Desc;
use crate::sources::nvidia::settings::Settings;
use crate::sources::testing::{Bench, Tree};

/// A device that says something every millisecond, until it is to stop.
struct Ready(Context);

impl Source for Ready {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        let series = self.0.group.series(&Desc::gauge("ready", ""), &[]);
        out.set(series, 1.0);
        let next = Instant::now() + Duration::from_millis(1);
        self.0.stop.wait_until(next);
        Ok(())
    }
}

static METER: Meter = Meter {
    pace: Pace::Device,
    ..Meter::of::<Settings>(
        "ready",
        "",
        |_| Switch::On,
        |_, _| Ok(String::new()),
        |context| Ok(Box::new(Ready(context.clone()))),
    )
};

#[test]
fn a_thread_that_could_not_be_had_is_tried_again_whoever_sets_the_pace() {
    let tree = Tree::new(&[]);
    let bench = Bench::new(&METER, &tree, crate::config::Config::default());
    let context = bench.context.clone();
    let running = Running {
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
        assert!(Instant::now() < deadline, "it is never read");
        running.watch(BootTime::now());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.stop();
    running.join(deadline);
}
