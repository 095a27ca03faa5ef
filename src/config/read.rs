//! The schema: which key goes where, as what kind of value.
//!
//! Taking a key is what makes it known. So the list of known keys, which serves "did you mean", the template's test and
//! others, is what [`read`] asked for, and can't be another.

use super::diagnose::{nearest, shown, Diagnostic};
use super::ina260;
use super::model::{Config, Ina260};
use super::tree::Node;
use super::values::{self, Outcome, Refusal};

/// What was read, and what `check` wants to know besides.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) config: Config,
    /// The old `enabled_metrics`, if it is there.
    pub(super) enabled_metrics: Option<Vec<String>>,
    /// Nobody wrote anything.
    pub(super) empty: bool,
    pub(super) keys: Keys,
}

/// Which keys there are in a file, and which there could be.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Keys of the file that no one took: their path.
    pub(super) unknown: Vec<Vec<String>>,
    /// Keys that are understood and have no effect: their path, and what there is to say.
    pub(super) idle: Vec<(Vec<String>, String)>,
    /// Keys that were asked for, dotted, in the schema's order.
    pub(super) known: Vec<String>,
}

/// A value that was refused.
#[derive(Debug)]
pub(super) struct Problem {
    path: Vec<String>,
    key: bool,
    message: String,
}

impl Problem {
    /// The key it is about, as the user knows it: `udp.port`.
    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// What is wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The error, at its place in `text`.
    pub(super) fn locate(self, text: &str) -> Diagnostic {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if self.key {
            Diagnostic::at_key(text, &path, self.message)
        } else {
            Diagnostic::at_value(text, &path, self.message)
        }
    }
}

/// The keys of a whole file.
fn top(root: &Node) -> Result<&[(String, Node)], Problem> {
    match root {
        Node::Null => Ok(&[]),
        Node::Map(entries) => Ok(entries),
        _ => Err(Problem {
            path: Vec::new(),
            key: false,
            message: format!(
                "the file is {}: write settings, `key: value`, one a line",
                root.found()
            ),
        }),
    }
}

/// Takes another configuration than the exporter's out of a document: `schema` asks for its keys.
pub(super) fn read_as<'n>(
    root: &'n Node,
    keys: &mut Keys,
    schema: impl FnOnce(&mut Section<'n, '_>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut section = Section::new(Vec::new(), top(root)?, keys);
    schema(&mut section)?;
    section.finish();
    Ok(())
}

/// Takes the configuration out of the document.
pub(super) fn read(root: &Node) -> Result<Reading, Problem> {
    let entries = top(root)?;
    let mut reading = Reading {
        empty: entries.is_empty(),
        ..Reading::default()
    };
    let mut config = Config::default();

    let mut top = Section::new(Vec::new(), entries, &mut reading.keys);
    top.set("device_type", values::device_type, &mut config.device_type)?;
    top.set("interval", values::seconds, &mut config.interval)?;
    top.set("port", values::port_or_off, &mut config.port)?;
    top.set("reload_port", values::port_or_off, &mut config.reload_port)?;
    top.option(
        "listen_address",
        values::address,
        &mut config.listen_address,
    )?;
    top.option("hostname", values::label, &mut config.hostname)?;
    top.set("labels", values::flag, &mut config.labels)?;
    top.set("self_metrics", values::flag, &mut config.self_metrics)?;
    top.option("landing", values::landing, &mut config.landing)?;
    top.option("sources", values::sources, &mut config.sources)?;
    config.metrics = top.take_even_empty("metrics", values::metrics)?;
    let enabled_metrics = top.take_even_empty("enabled_metrics", values::metric_names)?;

    top.set("watch", values::flag, &mut config.watch)?;
    top.section("management", |management| {
        let config = &mut config.management;
        management.set("allow_remote", values::flag, &mut config.allow_remote)?;
        management.set("hosts", values::hosts, &mut config.hosts)?;
        management.option("token_file", values::path, &mut config.token_file)
    })?;
    top.section("history", |history| {
        history.set("seconds", values::keep, &mut config.history.keep)?;
        history.set("bytes", values::bytes, &mut config.history.bytes)?;
        history.option("rows", values::rows, &mut config.history.rows)?;
        history.set(
            "window_statistics",
            values::flag,
            &mut config.history.window_statistics,
        )
    })?;
    top.section("multirate", |multirate| {
        multirate.set("on_metrics", values::flag, &mut config.multirate.on_metrics)
    })?;
    top.section("jetson", |jetson| {
        jetson.set("enabled", values::switch, &mut config.jetson.enabled)?;
        jetson.set(
            "use_tegrastats",
            values::flag,
            &mut config.jetson.use_tegrastats,
        )?;
        jetson.option("tegrastats", values::program, &mut config.jetson.tegrastats)?;
        jetson.set("sudo", values::flag, &mut config.jetson.sudo)
    })?;
    top.section("rpi", |rpi| {
        rpi.set("enabled", values::switch, &mut config.rpi.enabled)
    })?;
    top.section("nvidia", |nvidia| {
        nvidia.set("enabled", values::switch, &mut config.nvidia.enabled)?;
        nvidia.option("nvidia_smi", values::program, &mut config.nvidia.nvidia_smi)
    })?;
    top.section("rapl", |rapl| {
        rapl.set("enabled", values::switch, &mut config.rapl.enabled)?;
        let config = &mut config.rapl;
        rapl.set("interface", values::interface, &mut config.interface)?;
        rapl.option("metric", values::metric_name, &mut config.metric)?;
        rapl.option("metric_help", values::help, &mut config.metric_help)?;
        rapl.set("metric_label", values::label_name, &mut config.metric_label)?;
        rapl.set("metric_unit", values::rapl_unit, &mut config.metric_unit)?;
        rapl.option(
            "duration_metric",
            values::metric_name,
            &mut config.duration_metric,
        )?;
        rapl.option("duration_help", values::help, &mut config.duration_help)
    })?;
    for (name, sysfs) in [
        ("hwmon", &mut config.hwmon),
        ("power_supply", &mut config.power_supply),
    ] {
        top.section(name, |section| {
            section.set("enabled", values::switch, &mut sysfs.enabled)?;
            section.set("power_total", values::rails, &mut sysfs.power_total)
        })?;
    }
    top.section("thermal", |thermal| {
        thermal.set("enabled", values::switch, &mut config.thermal.enabled)
    })?;
    top.section("shelly", |section| {
        super::shelly::read(section, &mut config.shelly)
    })?;
    top.section("ina260", |section| {
        let Ina260 {
            enabled,
            chips,
            power_total,
        } = &mut config.ina260;
        let mut common = ina260::Common::default();
        section.set("enabled", values::switch, enabled)?;
        section.set("i2c_bus", ina260::buses, &mut common.buses)?;
        section.set("i2c_address", ina260::addresses, &mut common.addresses)?;
        let chip = &mut common.chip;
        section.set("averaging", ina260::averaging, &mut chip.averaging)?;
        section.set(
            "voltage_conversion_us",
            ina260::conversion,
            &mut chip.voltage_conversion_us,
        )?;
        section.set(
            "current_conversion_us",
            ina260::conversion,
            &mut chip.current_conversion_us,
        )?;
        section.set("mode", ina260::triggered, &mut chip.triggered)?;
        *chips = common.chips();
        let more = |node: &Node| ina260::chips(node, &common);
        section.set("chips", more, chips)?;
        let rails = |node: &Node| ina260::power_total(node, chips);
        section.set("power_total", rails, power_total)
    })?;
    top.section("udp", |udp| {
        let config = &mut config.udp;
        udp.set("enabled", values::switch, &mut config.enabled)?;
        udp.option("host", values::host, &mut config.host)?;
        udp.set("port", values::port, &mut config.port)?;
        udp.set("mode", values::udp_mode, &mut config.mode)?;
        udp.set("channel", values::index, &mut config.channel)?;
        udp.option("interval", values::seconds, &mut config.interval)?;
        udp.set("timeout", values::seconds, &mut config.timeout)?;
        udp.option("voltage", values::volts, &mut config.voltage)?;
        udp.set("start_at_zero", values::flag, &mut config.start_at_zero)
    })?;
    top.section("udp_agent", |agent| {
        let config = &mut config.udp_agent;
        agent.set("enabled", values::flag, &mut config.enabled)?;
        agent.set("port", values::port, &mut config.port)?;
        agent.option("voltage", values::volts, &mut config.voltage)
    })?;
    config.remote_write = super::remote_write::read(&mut top)?;
    top.section("config_server", |section| {
        super::central::read(section, &mut config.config_server)
    })?;
    top.option("config_poll", values::seconds, &mut config.config_poll)?;
    top.finish();

    reading.config = config;
    reading.enabled_metrics = enabled_metrics;
    Ok(reading)
}

/// Every key there is, dotted (`jetson.sudo`), sections included, in the order of the template.
pub fn known_keys() -> Vec<String> {
    read(&Node::Null).map_or_else(|_| Vec::new(), |reading| reading.keys.known)
}

/// One mapping of the file, or one that is not there.
pub(super) struct Section<'n, 'r> {
    /// The steps to it from the top: keys, and numbers of items.
    path: Vec<String>,
    entries: &'n [(String, Node)],
    taken: Vec<&'static str>,
    keys: &'r mut Keys,
}

impl<'n, 'r> Section<'n, 'r> {
    fn new(path: Vec<String>, entries: &'n [(String, Node)], keys: &'r mut Keys) -> Self {
        Self {
            path,
            entries,
            taken: Vec::new(),
            keys,
        }
    }

    fn path(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }

    fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.taken.push(key);
        let known = dotted(&self.path(key));
        if !self.keys.known.contains(&known) {
            self.keys.known.push(known);
        }
        let (_, node) = self.entries.iter().find(|(name, _)| name == key)?;
        Some(node)
    }

    fn problem(&self, key: &str, refusal: Refusal) -> Problem {
        let mut path = self.path(key);
        let dotted = dotted(&path);
        let is_item = |step: &String| step.parse::<usize>().is_ok();
        let subject = match refusal.below.as_slice() {
            // The message names the name itself.
            [_] if refusal.key => format!("`{dotted}`"),
            [item] if is_item(item) => format!("an item of `{dotted}`"),
            [item, inner, ..] if is_item(item) => format!("`{inner}` of an item of `{dotted}`"),
            [name, ..] => format!("`{dotted}.{name}`"),
            [] => format!("`{dotted}`"),
        };
        path.extend(refusal.below);
        Problem {
            path,
            key: refusal.key,
            message: format!("{subject} {}", refusal.message),
        }
    }

    /// The value of `key` if it is there, an empty one too.
    fn take_even_empty<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
    ) -> Result<Option<T>, Problem> {
        match self.node(key) {
            None => Ok(None),
            Some(node) => match kind(node) {
                Ok(value) => Ok(Some(value)),
                Err(refusal) => Err(self.problem(key, refusal)),
            },
        }
    }

    /// Sets `target` if `key` is there with a value. A key with nothing after its colon has its default.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
        target: &mut T,
    ) -> Result<(), Problem> {
        let kind = |node: &Node| match node {
            Node::Null => Ok(None),
            node => kind(node).map(Some),
        };
        if let Some(value) = self.take_even_empty(key, kind)?.flatten() {
            *target = value;
        }
        Ok(())
    }

    /// As `set`, for what is `None` by default.
    pub(super) fn option<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Node) -> Outcome<T>,
        target: &mut Option<T>,
    ) -> Result<(), Problem> {
        self.set(key, |node| kind(node).map(Some), target)
    }

    /// A key of a program that this one follows, which has no effect here: if it is there, it is warned of.
    pub(super) fn idle(&mut self, key: &'static str, why: &str) {
        self.taken.push(key);
        if self.entries.iter().any(|(name, _)| name == key) {
            let path = self.path(key);
            let message = format!("`{}` has no effect: {why}", dotted(&path));
            self.keys.idle.push((path, message));
        }
    }

    /// A key of a program that this one follows, without which the rest would do something else than is wanted: if it
    /// is there, it is refused.
    pub(super) fn unsupported(&mut self, key: &'static str, instead: &str) -> Result<(), Problem> {
        if !self.entries.iter().any(|(name, _)| name == key) {
            return Ok(());
        }
        let path = self.path(key);
        Err(Problem {
            message: format!("`{}` is not supported: {instead}", dotted(&path)),
            path,
            key: true,
        })
    }

    /// Reads the mapping under `key`. `inside` is called whether or not there is one.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'n, '_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let entries: &[(String, Node)] = match self.node(key) {
            None | Some(Node::Null) => &[],
            Some(Node::Map(entries)) => entries,
            Some(node) => {
                return Err(Problem {
                    path: self.path(key),
                    key: false,
                    message: format!(
                    "`{}` is {}: write its settings below it, indented, `key: value`, one a line",
                    dotted(&self.path(key)),
                    node.found()
                ),
                })
            }
        };
        let mut section = Section::new(self.path(key), entries, self.keys);
        inside(&mut section)?;
        section.finish();
        Ok(())
    }

    /// Reads the mappings of the list under `key`, or the one mapping that is there. `inside` is called for each, and
    /// for an empty one if there is none, of which nothing but its keys is kept.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        inside: impl Fn(&mut Section<'n, '_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let path = self.path(key);
        let refused = |path: Vec<String>, message: String| Problem {
            message: format!("`{}` {message}", dotted(&path)),
            path,
            key: false,
        };
        let items: Vec<(Vec<String>, &'n Node)> = match self.node(key) {
            None | Some(Node::Null) => Vec::new(),
            Some(node @ Node::Map(_)) => vec![(path, node)],
            Some(Node::List(nodes)) if nodes.len() <= values::MAX_ITEMS => {
                let item = |(i, node)| ([path.as_slice(), &[usize::to_string(&i)]].concat(), node);
                nodes.iter().enumerate().map(item).collect()
            }
            Some(Node::List(nodes)) => {
                let most = values::MAX_ITEMS;
                let message = format!("has {} items: at most {most} are allowed", nodes.len());
                return Err(refused(path, message));
            }
            Some(node) => {
                let message = format!(
                    "is {}: write a list of mappings, `- key: value`",
                    node.found()
                );
                return Err(refused(path, message));
            }
        };
        if items.is_empty() {
            let _ = inside(&mut Section::new(self.path(key), &[], self.keys));
        }
        items
            .into_iter()
            .map(|(path, node)| {
                let Node::Map(entries) = node else {
                    let message =
                        format!("has an item that is {}: write `- key: value`", node.found());
                    return Err(Problem {
                        key: false,
                        message: format!("`{}` {message}", dotted(&path)),
                        path,
                    });
                };
                let mut section = Section::new(path, entries, self.keys);
                let read = inside(&mut section)?;
                section.finish();
                Ok(read)
            })
            .collect()
    }

    /// Whether nobody wrote anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, node)| *node == Node::Null)
    }

    /// Something wrong with the value under `key`, or with the section itself.
    pub(super) fn refuse(&self, key: Option<&str>, message: String) -> Problem {
        Problem {
            path: key.map_or_else(|| self.path.clone(), |key| self.path(key)),
            key: false,
            message,
        }
    }

    /// Refuses what nobody asked for, where it would otherwise be warned of: nothing else may be in this section.
    pub(super) fn refuse_others(&self) -> Result<(), Problem> {
        let mut keys = self.entries.iter().map(|(key, _)| key.as_str());
        let Some(key) = keys.find(|key| !self.taken.contains(key)) else {
            return Ok(());
        };
        let path = self.path(key);
        Err(Problem {
            message: unknown(&path, &self.keys.known).replace(": it has no effect", ""),
            path,
            key: true,
        })
    }

    /// Notes what nobody asked for.
    fn finish(self) {
        for (key, _) in self.entries {
            if !self.taken.contains(&key.as_str()) {
                self.keys.unknown.push(self.path(key));
            }
        }
    }
}

/// A path as messages name it: without the numbers of items, which the line tells better.
fn dotted(path: &[String]) -> String {
    let keys = path.iter().filter(|step| step.parse::<usize>().is_err());
    keys.map(String::as_str).collect::<Vec<_>>().join(".")
}

/// The warning for one unknown key: what it may have been meant to be, or where it belongs.
pub(super) fn unknown(path: &[String], known: &[String]) -> String {
    let (key, outer) = path
        .split_last()
        .map_or(("", path), |(key, outer)| (key.as_str(), outer));
    let section = Some(dotted(outer)).filter(|section| !section.is_empty());
    let section = section.as_deref();
    let shown = shown(key);
    let siblings = known
        .iter()
        .filter_map(|known| match known.rsplit_once('.') {
            Some((outer, inner)) => (section == Some(outer)).then_some(inner),
            None => section.is_none().then_some(known.as_str()),
        });
    let whole = match section {
        Some(section) => format!("{section}.{shown}"),
        None => shown,
    };
    if let Some(near) = nearest(key, siblings) {
        return format!("unknown key `{whole}`: did you mean `{near}`?");
    }
    let elsewhere = known
        .iter()
        .find(|known| known.rsplit('.').next() == Some(key));
    match elsewhere.map(|known| (known, known.rsplit_once('.'))) {
        // `enabled` is at home in several sections: naming one would be a guess.
        Some((_, Some((_, "enabled")))) | None => {
            format!("unknown key `{whole}`: it has no effect")
        }
        Some((_, Some((outer, _)))) => {
            format!("unknown key `{whole}`: it belongs below `{outer}:`, indented")
        }
        Some((known, None)) => {
            format!("unknown key `{whole}`: `{known}` belongs at the left margin, not below another key")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_those_of_the_schema() {
        let keys = known_keys();
        assert_eq!(keys.first().map(String::as_str), Some("device_type"));
        for key in [
            "metrics",
            "jetson",
            "jetson.sudo",
            "power_supply.power_total",
        ] {
            assert!(keys.iter().any(|known| known == key), "{key} of {keys:?}");
        }
        let mut once = keys.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), keys.len());
    }

    /// Nothing a user is told to write may be unknown itself.
    #[test]
    fn a_known_key_is_never_reported() {
        for key in known_keys() {
            let node = key.rsplit('.').fold(Node::Null, |inner, name| {
                Node::Map(vec![(name.to_owned(), inner)])
            });
            // A plug needs a host besides, a receiver a URL.
            let Ok(reading) = read(&node) else {
                let lists = ["shelly.devices.", "remote_write."];
                assert!(lists.iter().any(|list| key.starts_with(list)), "{key}");
                continue;
            };
            assert_eq!(reading.keys.unknown, Vec::<Vec<String>>::new(), "{key}");
        }
    }
}
