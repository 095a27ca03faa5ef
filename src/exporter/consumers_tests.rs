use super::super::slots::MAX_SLOTS;
use super::*;
use crate::metrics::{Desc, Group, Offset, Policy, Readings, SeriesId};

const SECOND: u64 = 1_000_000_000;

/// A source that is read once a second, two samples a time, and the consumers that scrape it.
struct Setup {
    consumers: Arc<Consumers>,
    registry: Registry,
    group: Arc<Group>,
    ids: [SeriesId; 2],
    generation: u64,
    /// The time in seconds. A row is read in each.
    now: u64,
}

impl Setup {
    fn new() -> Setup {
        let registry = Registry::new(Policy::All);
        let (group, ids, generation) = source(&registry, Duration::from_secs(7200));
        Setup {
            consumers: Arc::default(),
            registry,
            group,
            ids,
            generation,
            now: 1000,
        }
    }

    /// Ends the source and starts it again, as after a change of its settings.
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

    fn begin(&self, client: &Client) -> Option<Scrape> {
        let now = BootTime(self.now * SECOND + 1);
        let since = BootTime((self.now - 10) * SECOND + 1);
        let (registry, client) = (&self.registry, client.clone());
        self.consumers.begin(client, registry, since, now)
    }

    /// Scrapes once. Returns the number of samples.
    fn scrape(&self, client: &Client) -> usize {
        let scrape = self.begin(client).unwrap();
        self.finish(scrape, true)
    }

    fn finish(&self, mut scrape: Scrape, delivered: bool) -> usize {
        let now = BootTime(self.now * SECOND + 1);
        let offset = Offset::of_boot_time();
        let batch = scrape
            .progress
            .take(&self.registry, &offset, now, usize::MAX);
        scrape.samples_passed = scrape.progress.samples(&self.registry);
        let rows = batch.of(&self.group);
        let count = (0..2).map(|i| rows.map_or(0, |rows| rows.series(i).count()));
        let count = count.sum();
        scrape.end(delivered);
        count
    }

    fn lost(&self, name: &str) -> u64 {
        let losses = self.consumers.losses();
        let losses_of_name = losses.into_iter().find(|(of, _)| of == name);
        losses_of_name.unwrap().1.dropped
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

fn client(address: &str, name: &str) -> Client {
    Client {
        address: address.parse().unwrap(),
        name: Some(name.as_bytes().to_vec()).filter(|name| !name.is_empty()),
    }
}

const HOME: &str = "127.0.0.1";

/// Strangers, by number: with a name each at one address, or with an address each.
fn by_name(n: usize) -> Client {
    client(HOME, &format!("stranger-{n}"))
}

fn by_address(n: usize) -> Client {
    let address = IpAddr::from((0x7f01_0000 + n as u32).to_be_bytes());
    client(&address.to_string(), "")
}

fn by_ipv6(n: usize) -> Client {
    client(&format!("2001:db8::{n:x}"), "x")
}

/// All three kinds, one after the other.
fn mixed(n: usize) -> Client {
    [by_name, by_address, by_ipv6][n % 3](n)
}

type Stranger = fn(usize) -> Client;
const STRANGERS: [Stranger; 4] = [by_name, by_address, by_ipv6, mixed];

/// Scrapes every `period` seconds while strangers arrive. `before` strangers came earlier.
fn assert_keeps_its_slot(strangers: Stranger, period: u64, before: usize) {
    let mut setup = Setup::new();
    setup.wait(30);
    let mut next = 0..;
    let mut arrive = |setup: &Setup, count| {
        for n in next.by_ref().take(count) {
            setup.scrape(&strangers(n));
        }
    };
    arrive(&setup, before);
    let regular = client(HOME, "prometheus-a");
    setup.scrape(&regular);
    // After its second visit the consumer keeps its slot whatever happens. Before, it does so while there are free
    // slots.
    for burst in [40, MAX_SLOTS + 50] {
        setup.wait(period / 2);
        arrive(&setup, burst);
        setup.wait(period - period / 2);
        assert_eq!(setup.scrape(&regular), 2 * period as usize);
    }
    // The consumer misses some scrapes.
    setup.wait(3 * period);
    arrive(&setup, MAX_SLOTS + 50);
    assert_eq!(setup.scrape(&regular), 6 * period as usize);
    assert_eq!(setup.known(), MAX_SLOTS);
}

#[test]
fn returning_consumer_is_not_forgotten_for_single_visitors() {
    for strangers in STRANGERS {
        assert_keeps_its_slot(strangers, 15, 400);
    }
    for period in [1, 300] {
        assert_keeps_its_slot(by_name, period, 0);
    }
}

#[test]
fn first_newcomers_are_kept_from_their_first_visit_on() {
    for strangers in STRANGERS {
        let mut setup = Setup::new();
        let pair = [client(HOME, "a"), client(HOME, "b")];
        for regular in &pair {
            setup.scrape(regular);
        }
        // Five minutes: the longest usual scrape interval.
        for n in 0..300 {
            setup.wait(1);
            for m in 0..2 {
                setup.scrape(&strangers(2 * n + m));
            }
        }
        for regular in &pair {
            assert_eq!(setup.scrape(regular), 600);
        }
        assert_eq!(setup.lost(OTHERS), 0);
    }
}

#[test]
fn returning_consumers_under_many_names_leave_slots_for_others() {
    for (address, many) in [(HOME, MAX_SLOTS / 2), ("192.0.2.1", MAX_SLOTS + 50)] {
        let mut setup = Setup::new();
        let strangers = |setup: &Setup| {
            (0..many).for_each(|n| {
                setup.scrape(&by_name(n));
            });
        };
        for _ in 0..3 {
            strangers(&setup);
            setup.wait(5);
        }
        let regular = client(address, "prometheus-a");
        setup.scrape(&regular);
        for _ in 0..3 {
            setup.wait(15);
            strangers(&setup);
            assert_eq!(setup.scrape(&regular), 30, "{address}");
        }
        // Single visitors are forgotten first, whoever has the slots that are kept.
        (1000..1000 + MAX_SLOTS + 50).for_each(|n| {
            setup.scrape(&by_name(n));
        });
        setup.wait(15);
        assert_eq!(setup.scrape(&regular), 30, "{address}");
    }
}

/// Strangers came first and have all slots that are kept for newcomers. Between two visits, more strangers come than
/// there are slots.
#[test]
fn made_up_names_leave_slots_for_unnamed_and_listed_consumers() {
    for regular in [
        client(HOME, ""),
        client(HOME, "listed"),
        client("127.0.0.9", ""),
        client("127.0.0.9", "prometheus-a"),
    ] {
        let mut setup = Setup::new();
        setup.consumers.list(&["listed".to_string()]);
        setup.wait(10);
        let mut next = 10_000..;
        let mut flood = |setup: &Setup| {
            // Returning strangers, and single visitors.
            for n in (0..MAX_SLOTS).chain(next.by_ref().take(50)) {
                setup.scrape(&by_name(n));
            }
        };
        flood(&setup);
        setup.wait(5);
        flood(&setup);
        setup.scrape(&regular);
        for _ in 0..2 {
            setup.wait(15);
            flood(&setup);
            assert_eq!(setup.scrape(&regular), 30, "{regular:?}");
        }
    }
}

#[test]
fn losses_of_a_forgotten_consumer_are_counted_when_it_returns() {
    let mut setup = Setup::new();
    setup.wait(100);
    // The first of a network keep their slots, so that the next one does not.
    (0..20).for_each(|n| {
        setup.scrape(&by_name(n));
    });
    let unlucky = client(HOME, "unlucky");
    assert_eq!(setup.scrape(&unlucky), 20);
    setup.wait(50);
    assert_eq!(setup.consumers.forgotten(), 0);
    (100..800).for_each(|n| {
        setup.scrape(&by_name(n));
    });
    assert!(setup.consumers.forgotten() > 100);
    assert_eq!(setup.lost(OTHERS), 0);
    // A response that does not arrive counts nothing.
    let scrape = setup.begin(&unlucky).unwrap();
    setup.finish(scrape, false);
    assert_eq!(setup.lost(OTHERS), 0);
    assert_eq!(setup.scrape(&unlucky), 20);
    assert_eq!(
        setup.lost(OTHERS),
        80,
        "fifty rows of two samples, less the samples it received"
    );
    setup.wait(5);
    assert_eq!(setup.scrape(&unlucky), 10);
    assert_eq!(setup.lost(OTHERS), 80);
}

#[test]
fn unread_samples_of_an_ended_source_are_counted_as_lost() {
    let mut setup = Setup::new();
    let (regular, late) = (client(HOME, "a"), client(HOME, "b"));
    setup.scrape(&regular);
    setup.scrape(&late);
    setup.wait(10);
    assert_eq!(setup.scrape(&regular), 20);
    setup.wait(3);
    setup.restart_source();
    setup.wait(5);
    assert_eq!(setup.scrape(&regular), 10);
    assert_eq!(setup.lost(OTHERS), 6);
    assert_eq!(setup.scrape(&late), 10);
    assert_eq!(setup.lost(OTHERS), 6 + 26);
    setup.wait(1);
    assert_eq!((setup.scrape(&regular), setup.lost(OTHERS)), (2, 32));
}

#[test]
fn consumer_continues_at_another_address_without_taking_from_the_old_one() {
    let mut setup = Setup::new();
    setup.scrape(&client(HOME, "a"));
    setup.wait(50);
    // The consumer moved, or another client gives its name.
    assert_eq!(setup.scrape(&client("192.0.2.1", "a")), 100);
    setup.wait(5);
    assert_eq!(setup.scrape(&client("192.0.2.1", "a")), 10);
    assert_eq!(setup.scrape(&client(HOME, "a")), 110);
    // An address is not a name.
    setup.wait(20);
    assert_eq!(setup.scrape(&client("192.0.2.9", HOME)), 20);
    assert_eq!(setup.scrape(&client(HOME, "")), 20);
    assert_eq!(setup.scrape(&client(HOME, "a")), 40);
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
    let mut setup = Setup::new();
    setup.wait(5);
    let scrape = |setup: &Setup, name: &Vec<u8>| {
        setup.scrape(&Client {
            address: HOME.parse().unwrap(),
            name: Some(name.clone()),
        })
    };
    for name in &names {
        assert_eq!(scrape(&setup, name), 10, "{name:?}");
    }
    setup.wait(1);
    for name in &names {
        assert_eq!(scrape(&setup, name), 2, "{name:?}");
    }
    let shown = client(HOME, &format!("a\"\n\u{1b}[31m{long}")).shown();
    assert!(
        !shown.chars().any(char::is_control) && shown.len() < 120,
        "{shown}"
    );
}

#[test]
fn losses_are_shown_by_name_only_for_listed_consumers() {
    let mut setup = Setup::new();
    let lose = |setup: &mut Setup, name: &str, samples| {
        setup.wait(1);
        let mut scrape = setup.begin(&client(HOME, name)).unwrap();
        scrape.progress.dropped += samples;
        scrape.progress.set_back += 1;
        scrape.end(true);
    };
    setup.consumers.list(&["a".to_string(), "b".to_string()]);
    lose(&mut setup, "a", 10);
    lose(&mut setup, "stranger", 100);
    lose(&mut setup, "", 1000);
    lose(&mut setup, "other", 10_000);
    lose(&mut setup, "a", 20);
    let names: Vec<_> = setup.consumers.losses().into_iter().map(|l| l.0).collect();
    assert_eq!(names, ["a", "b", OTHERS]);
    assert_eq!((setup.lost("a"), setup.lost("b")), (30, 0));
    assert_eq!(setup.lost(OTHERS), 11_100);
    setup.consumers.list(&["a".to_string()]);
    assert_eq!(setup.lost("a"), 30, "a reload takes nothing back");
}

#[test]
fn progress_and_losses_count_only_when_delivered() {
    let setup = Setup::new();
    let lose = |samples: u64, delivered: Option<bool>| {
        let mut scrape = setup.begin(&client(HOME, "a")).unwrap();
        scrape.progress.dropped += samples;
        match delivered {
            Some(delivered) => scrape.end(delivered),
            None => drop(scrape),
        }
    };
    lose(1, Some(false));
    lose(10, Some(true));
    lose(100, None);
    lose(1000, Some(true));
    assert_eq!(setup.lost(OTHERS), 1010);
}

#[test]
fn consumer_has_one_scrape_at_a_time_and_is_not_forgotten_during_it() {
    let setup = Setup::new();
    // The consumer is not one of the first of its network, which are kept anyway.
    (0..20).for_each(|n| {
        setup.scrape(&by_name(n));
    });
    let scrape = setup.begin(&client(HOME, "a")).unwrap();
    assert!(setup.begin(&client(HOME, "a")).is_none());
    (100..700).for_each(|n| {
        setup.scrape(&by_name(n));
    });
    assert!(setup.begin(&client(HOME, "a")).is_none());
    setup.finish(scrape, true);
    assert!(setup.begin(&client(HOME, "a")).is_some());
}

#[test]
fn number_of_consumers_is_bounded_by_the_bytes_of_their_positions() {
    let mut setup = Setup::new();
    for i in 0..2000 {
        setup
            .group
            .series(&Desc::gauge("wide_watts", ""), &[("rail", &i.to_string())]);
    }
    setup.wait(2);
    (0..400).for_each(|n| {
        setup.scrape(&mixed(n));
    });
    assert!((64..128).contains(&setup.known()), "{}", setup.known());
    let state = lock::lock(&setup.consumers.state);
    assert!(state.forgotten.len() <= MAX_FORGOTTEN);
}
