use super::super::places::PLACES;
use super::*;
use crate::metrics::{Desc, Group, Offset, Policy, Readings, SeriesId};

const SECOND: u64 = 1_000_000_000;

/// A source that is read once a second, two samples a time, and those who scrape it.
struct Bench {
    consumers: Arc<Consumers>,
    registry: Registry,
    group: Arc<Group>,
    ids: [SeriesId; 2],
    generation: u64,
    /// Seconds; a row is read in each.
    now: u64,
}

impl Bench {
    fn new() -> Bench {
        let registry = Registry::new(Policy::All);
        let (group, ids, generation) = source(&registry, Duration::from_secs(7200));
        Bench {
            consumers: Arc::default(),
            registry,
            group,
            ids,
            generation,
            now: 1000,
        }
    }

    /// The source ends, and begins anew, as after a change of its settings.
    fn restart_source(&mut self) {
        self.registry.remove_group(&self.group);
        (self.group, self.ids, self.generation) = source(&self.registry, Duration::from_secs(7200));
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            let mut out = Readings::new(5.0);
            out.begin(BootTime(self.now * SECOND));
            self.ids.iter().for_each(|id| out.set(*id, 1.5));
            self.group.publish(self.generation, &out);
        }
    }

    fn begin(&self, visitor: &Visitor) -> Option<Turn> {
        let now = BootTime(self.now * SECOND + 1);
        let since = BootTime((self.now - 10) * SECOND + 1);
        let (registry, visitor) = (&self.registry, visitor.clone());
        self.consumers.begin(visitor, registry, since, now)
    }

    /// One scrape: how many samples it had.
    fn ask(&self, visitor: &Visitor) -> usize {
        let turn = self.begin(visitor).unwrap();
        self.finish(turn, true)
    }

    fn finish(&self, mut turn: Turn, delivered: bool) -> usize {
        let now = BootTime(self.now * SECOND + 1);
        let offset = Offset::of_boot_time();
        let batch = turn.progress.take(&self.registry, &offset, now, usize::MAX);
        turn.had = turn.progress.samples(&self.registry);
        let rows = batch.of(&self.group);
        let count = (0..2).map(|i| rows.map_or(0, |rows| rows.series(i).count()));
        let count = count.sum();
        turn.end(delivered);
        count
    }

    fn lost(&self, name: &str) -> u64 {
        let losses = self.consumers.losses();
        let of_name = losses.into_iter().find(|(of, _)| of == name);
        of_name.unwrap().1.dropped
    }

    fn known(&self) -> usize {
        lock::lock(&self.consumers.state).known.len()
    }
}

fn source(registry: &Registry, keep: Duration) -> (Arc<Group>, [SeriesId; 2], u64) {
    let group = registry.add_group(0, "rapl", vec![]);
    group.history().limit(keep, 1 << 22);
    let ids = ["a_watts", "b_watts"].map(|name| group.series(&Desc::gauge(name, ""), &[]));
    let generation = group.new_generation();
    (group, ids, generation)
}

fn visitor(address: &str, name: &str) -> Visitor {
    Visitor {
        address: address.parse().unwrap(),
        name: Some(name.as_bytes().to_vec()).filter(|name| !name.is_empty()),
    }
}

const HOME: &str = "127.0.0.1";

/// Strangers, by number: by name from one address, or from as many addresses.
fn by_name(n: usize) -> Visitor {
    visitor(HOME, &format!("stranger-{n}"))
}

fn by_address(n: usize) -> Visitor {
    let address = IpAddr::from((0x7f01_0000 + n as u32).to_be_bytes());
    visitor(&address.to_string(), "")
}

fn by_ipv6(n: usize) -> Visitor {
    visitor(&format!("2001:db8::{n:x}"), "x")
}

/// Both kinds of address, in turns.
fn mixed(n: usize) -> Visitor {
    [by_name, by_address, by_ipv6][n % 3](n)
}

type Stranger = fn(usize) -> Visitor;
const STRANGERS: [Stranger; 4] = [by_name, by_address, by_ipv6, mixed];

/// Scrapes every `period` seconds while strangers come, who have come before.
fn assert_keeps_its_place(strangers: Stranger, period: u64, before: usize) {
    let mut bench = Bench::new();
    bench.wait(30);
    let mut next = 0..;
    let mut come = |bench: &Bench, count| {
        for n in next.by_ref().take(count) {
            bench.ask(&strangers(n));
        }
    };
    come(&bench, before);
    let regular = visitor(HOME, "prometheus-a");
    bench.ask(&regular);
    // After its second visit it is safe whatever comes; before, it is as long as there is room.
    for burst in [40, PLACES + 50] {
        bench.wait(period / 2);
        come(&bench, burst);
        bench.wait(period - period / 2);
        assert_eq!(bench.ask(&regular), 2 * period as usize);
    }
    // It is away for some scrapes.
    bench.wait(3 * period);
    come(&bench, PLACES + 50);
    assert_eq!(bench.ask(&regular), 6 * period as usize);
    assert_eq!(bench.known(), PLACES);
}

#[test]
fn who_comes_regularly_is_not_forgotten_for_those_who_come_once() {
    for strangers in STRANGERS {
        assert_keeps_its_place(strangers, 15, 400);
    }
    for period in [1, 300] {
        assert_keeps_its_place(by_name, period, 0);
    }
}

#[test]
fn who_comes_first_is_safe_from_its_first_visit_on() {
    for strangers in STRANGERS {
        let mut bench = Bench::new();
        let pair = [visitor(HOME, "a"), visitor(HOME, "b")];
        for regular in &pair {
            bench.ask(regular);
        }
        // Five minutes, as long a scrape interval as there is.
        for n in 0..300 {
            bench.wait(1);
            for m in 0..2 {
                bench.ask(&strangers(2 * n + m));
            }
        }
        for regular in &pair {
            assert_eq!(bench.ask(regular), 600);
        }
        assert_eq!(bench.lost(OTHERS), 0);
    }
}

#[test]
fn those_who_come_regularly_under_many_names_leave_room_for_others() {
    for (address, many) in [(HOME, PLACES / 2), ("192.0.2.1", PLACES + 50)] {
        let mut bench = Bench::new();
        let strangers = |bench: &Bench| {
            (0..many).for_each(|n| {
                bench.ask(&by_name(n));
            });
        };
        for _ in 0..3 {
            strangers(&bench);
            bench.wait(5);
        }
        let regular = visitor(address, "prometheus-a");
        bench.ask(&regular);
        for _ in 0..3 {
            bench.wait(15);
            strangers(&bench);
            assert_eq!(bench.ask(&regular), 30, "{address}");
        }
        // Those who come once go first, whoever has one of the places that are kept.
        (1000..1000 + PLACES + 50).for_each(|n| {
            bench.ask(&by_name(n));
        });
        bench.wait(15);
        assert_eq!(bench.ask(&regular), 30, "{address}");
    }
}

#[test]
fn who_was_forgotten_and_comes_again_has_its_loss_counted() {
    let mut bench = Bench::new();
    bench.wait(100);
    // The first of its network have a place of their own.
    (0..20).for_each(|n| {
        bench.ask(&by_name(n));
    });
    let unlucky = visitor(HOME, "unlucky");
    assert_eq!(bench.ask(&unlucky), 20);
    bench.wait(50);
    assert_eq!(bench.consumers.forgotten(), 0);
    (100..800).for_each(|n| {
        bench.ask(&by_name(n));
    });
    assert!(bench.consumers.forgotten() > 100);
    assert_eq!(bench.lost(OTHERS), 0);
    // An answer that does not arrive counts nothing.
    let turn = bench.begin(&unlucky).unwrap();
    bench.finish(turn, false);
    assert_eq!(bench.lost(OTHERS), 0);
    assert_eq!(bench.ask(&unlucky), 20);
    assert_eq!(
        bench.lost(OTHERS),
        80,
        "fifty rows of two, less what it was given"
    );
    bench.wait(5);
    assert_eq!(bench.ask(&unlucky), 10);
    assert_eq!(bench.lost(OTHERS), 80);
}

#[test]
fn what_a_source_had_that_was_ended_is_lost_and_counted() {
    let mut bench = Bench::new();
    let (regular, late) = (visitor(HOME, "a"), visitor(HOME, "b"));
    bench.ask(&regular);
    bench.ask(&late);
    bench.wait(10);
    assert_eq!(bench.ask(&regular), 20);
    bench.wait(3);
    bench.restart_source();
    bench.wait(5);
    assert_eq!(bench.ask(&regular), 10);
    assert_eq!(bench.lost(OTHERS), 6);
    assert_eq!(bench.ask(&late), 10);
    assert_eq!(bench.lost(OTHERS), 6 + 26);
    bench.wait(1);
    assert_eq!((bench.ask(&regular), bench.lost(OTHERS)), (2, 32));
}

#[test]
fn a_name_at_another_address_goes_on_there_and_takes_nothing_away() {
    let mut bench = Bench::new();
    bench.ask(&visitor(HOME, "a"));
    bench.wait(50);
    // It moved, or somebody gives its name.
    assert_eq!(bench.ask(&visitor("192.0.2.1", "a")), 100);
    bench.wait(5);
    assert_eq!(bench.ask(&visitor("192.0.2.1", "a")), 10);
    assert_eq!(bench.ask(&visitor(HOME, "a")), 110);
    // Its address is no name.
    bench.wait(20);
    assert_eq!(bench.ask(&visitor("192.0.2.9", HOME)), 20);
    assert_eq!(bench.ask(&visitor(HOME, "")), 20);
    assert_eq!(bench.ask(&visitor(HOME, "a")), 40);
}

#[test]
fn names_that_differ_anywhere_are_different_consumers() {
    let long = "x".repeat(5000);
    let names: Vec<Vec<u8>> = [
        "a",
        "A",
        "a ",
        " a",
        "\"a\"",
        "a\n",
        "a\0",
        "é",
        "e\u{301}",
        "other",
        &format!("{long}1"),
        &format!("{long}2"),
    ]
    .map(|name| name.as_bytes().to_vec())
    .into_iter()
    .chain([vec![0xff], vec![0xfe], "\u{fffd}".into()])
    .collect();
    let mut bench = Bench::new();
    bench.wait(5);
    let ask = |bench: &Bench, name: &Vec<u8>| {
        bench.ask(&Visitor {
            address: HOME.parse().unwrap(),
            name: Some(name.clone()),
        })
    };
    for name in &names {
        assert_eq!(ask(&bench, name), 10, "{name:?}");
    }
    bench.wait(1);
    for name in &names {
        assert_eq!(ask(&bench, name), 2, "{name:?}");
    }
    let shown = visitor(HOME, &format!("a\"\n\u{1b}[31m{long}")).shown();
    assert!(
        !shown.chars().any(char::is_control) && shown.len() < 120,
        "{shown}"
    );
}

#[test]
fn losses_are_shown_by_name_for_those_alone_that_are_listed() {
    let mut bench = Bench::new();
    let lose = |bench: &mut Bench, name: &str, samples| {
        bench.wait(1);
        let mut turn = bench.begin(&visitor(HOME, name)).unwrap();
        turn.progress.dropped += samples;
        turn.progress.set_back += 1;
        turn.end(true);
    };
    bench.consumers.list(&["a".to_string(), "b".to_string()]);
    lose(&mut bench, "a", 10);
    lose(&mut bench, "stranger", 100);
    lose(&mut bench, "", 1000);
    lose(&mut bench, "other", 10_000);
    lose(&mut bench, "a", 20);
    let names: Vec<_> = bench.consumers.losses().into_iter().map(|l| l.0).collect();
    assert_eq!(names, ["a", "b", OTHERS]);
    assert_eq!((bench.lost("a"), bench.lost("b")), (30, 0));
    assert_eq!(bench.lost(OTHERS), 11_100);
    bench.consumers.list(&["a".to_string()]);
    assert_eq!(bench.lost("a"), 30, "a reload takes nothing back");
}

#[test]
fn what_a_turn_did_counts_when_it_was_delivered() {
    let bench = Bench::new();
    let lose = |samples: u64, delivered: Option<bool>| {
        let mut turn = bench.begin(&visitor(HOME, "a")).unwrap();
        turn.progress.dropped += samples;
        match delivered {
            Some(delivered) => turn.end(delivered),
            None => drop(turn),
        }
    };
    lose(1, Some(false));
    lose(10, Some(true));
    lose(100, None);
    lose(1000, Some(true));
    assert_eq!(bench.lost(OTHERS), 1010);
}

#[test]
fn one_consumer_has_one_turn_at_a_time_and_is_not_forgotten_in_it() {
    let bench = Bench::new();
    // Not one of the first of its network, which are kept anyway.
    (0..20).for_each(|n| {
        bench.ask(&by_name(n));
    });
    let turn = bench.begin(&visitor(HOME, "a")).unwrap();
    assert!(bench.begin(&visitor(HOME, "a")).is_none());
    (100..700).for_each(|n| {
        bench.ask(&by_name(n));
    });
    assert!(bench.begin(&visitor(HOME, "a")).is_none());
    bench.finish(turn, true);
    assert!(bench.begin(&visitor(HOME, "a")).is_some());
}

#[test]
fn memory_is_bounded_by_what_a_position_takes_too() {
    let mut bench = Bench::new();
    for i in 0..2000 {
        bench
            .group
            .series(&Desc::gauge("wide_watts", ""), &[("rail", &i.to_string())]);
    }
    bench.wait(2);
    (0..400).for_each(|n| {
        bench.ask(&mixed(n));
    });
    assert!((64..128).contains(&bench.known()), "{}", bench.known());
    let state = lock::lock(&bench.consumers.state);
    assert!(state.forgotten.len() <= FORGOTTEN);
}
