//! A source that hangs in one value: the watchdog leaves that value out, the others are still published, and the hanging
//! poll cannot publish its old values later.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use edge_metrics_exporter::config::{Config, SectionSpec, Switch};
use edge_metrics_exporter::metrics::{Desc, Policy, Readings, Registry, SeriesId};
use edge_metrics_exporter::sources::nvidia::settings::Settings;
use edge_metrics_exporter::sources::{
    Board, Context, Device, Error, Health, Meter, Pace, Roots, RunningSource, Source,
};
use edge_metrics_exporter::sys::clock::BootTime;
use edge_metrics_exporter::sys::stop::Stop;

/// Longer than anything here takes on the busiest machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the source hangs.
const HANGS: &str = "/sys/hangs";

static METER: Meter = Meter {
    name: "stuck",
    summary: "hangs in one of three values",
    device_types: &[],
    pace: Pace::Interval,
    read_timeout: Duration::from_secs(4),
    switch: |_| Switch::On,
    section: SectionSpec::of::<Settings>(),
    devices: None,
    probe: |_, _| Ok(String::new()),
    claims: None,
    open: |context| Ok(Box::new(Hanging::new(context))),
};

/// A gate: threads wait while it is closed.
struct Gate {
    state: Mutex<(bool, u32)>,
    changed: Condvar,
}

impl Gate {
    const fn open() -> Gate {
        Gate {
            state: Mutex::new((false, 0)),
            changed: Condvar::new(),
        }
    }

    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn is_waited_at(&self) -> bool {
        self.state.lock().unwrap().1 > 0
    }
}

/// One gate in the hanging value, and one before any value is read.
static VALUE: Gate = Gate::open();
static POLL: Gate = Gate::open();
static OPENED: AtomicU32 = AtomicU32::new(0);
static CLOSED: AtomicU32 = AtomicU32::new(0);

/// Sets `first`, `hangs` and `last` to its own number.
struct Hanging {
    number: u32,
    item: u32,
    health: Arc<Health>,
    series: [SeriesId; 3],
}

impl Hanging {
    fn new(context: &Context) -> Hanging {
        Hanging {
            number: OPENED.fetch_add(1, Ordering::SeqCst) + 1,
            item: context.health.path_id(Path::new(HANGS)),
            health: Arc::clone(&context.health),
            series: ["first", "hangs", "last"].map(|name| {
                let desc = Desc::gauge(name, "");
                context.group.series(&desc, &[])
            }),
        }
    }
}

impl Source for Hanging {
    fn poll(&mut self, out: &mut Readings) -> Result<(), Error> {
        POLL.pass();
        let [first, hangs, last] = self.series;
        out.set(first, f64::from(self.number));
        if !self.health.is_excluded(Path::new(HANGS)) {
            self.health.begin_read(self.item);
            VALUE.pass();
            out.set(hangs, f64::from(self.number));
        }
        out.set(last, f64::from(self.number));
        Ok(())
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        CLOSED.fetch_add(1, Ordering::SeqCst);
    }
}

fn wait_for(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !happens() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn hanging_value_does_not_affect_others() {
    let registry = Arc::new(Registry::new(Policy::All));
    let group = registry.add_group(0, METER.name, vec![]);
    let config = Config::default();
    let context = Context {
        board: Arc::new(Board::detect(Roots::default())),
        config: Arc::new(config),
        device: Device::default(),
        group: Arc::clone(&group),
        registry: Arc::clone(&registry),
        health: Arc::default(),
        stop: Arc::new(Stop::default()),
        interval: Duration::from_millis(10),
    };
    let health = Arc::clone(&context.health);
    let ids = Hanging::new(&context).series;
    let values = || ids.map(|id| group.value(id));
    let is_excluded = || health.is_excluded(Path::new(HANGS));
    OPENED.store(0, Ordering::SeqCst);
    CLOSED.store(0, Ordering::SeqCst);

    let running = RunningSource::start(&METER, context);
    wait_for("all is read", || values() == [Some(1.0); 3]);
    running.restart_if_stuck(BootTime::now());
    assert!(!is_excluded(), "nothing hangs");

    VALUE.set_closed(true);
    wait_for("the watchdog leaves the value out", || {
        running.restart_if_stuck(BootTime::now());
        is_excluded()
    });
    let errors = health.errors();
    assert!(errors >= 1);
    wait_for("the others are read again", || {
        running.restart_if_stuck(BootTime::now());
        values() == [Some(2.0), None, Some(2.0)]
    });
    let before = group.read_at();
    wait_for("they go on being read", || group.read_at() > before);
    assert_eq!(OPENED.load(Ordering::SeqCst), 2);
    assert_eq!(CLOSED.load(Ordering::SeqCst), 0, "the first still hangs");

    // While the second source is held before its poll, only the first one could publish.
    POLL.set_closed(true);
    wait_for("the second waits", || POLL.is_waited_at());
    let before = group.read_at();
    VALUE.set_closed(false);
    wait_for("the first ends", || CLOSED.load(Ordering::SeqCst) == 1);
    assert_eq!(group.read_at(), before);
    assert_eq!(values(), [Some(2.0), None, Some(2.0)]);
    assert!(is_excluded(), "it may hang again: first a pause");

    POLL.set_closed(false);
    wait_for("the second goes on", || group.read_at() > before);
    assert_eq!(health.errors(), errors, "that it came back is no error");
    running.stop();
    running.join(Instant::now() + WAIT_TIMEOUT);
    assert_eq!(CLOSED.load(Ordering::SeqCst), 2);
}
