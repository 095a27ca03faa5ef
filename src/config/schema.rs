//! The schema of the exporter's configuration: the common keys, and a section for each meter.
//!
//! A meter declares its section in its own file ([`MeterSettings`]); this module does not depend on any meter. [`Meters`] holds
//! the settings by section name, and [`Schema`] lists the sections.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::model::Config;
use super::section::{Problem, Section};

/// The settings of one meter. `Serialize` shows each setting under its key; a secret has the type
/// [`Secret`](super::Secret), which is never shown.
pub trait MeterSettings:
    Clone + Debug + Default + PartialEq + Serialize + Send + Sync + 'static
{
    /// The name of the section.
    const SECTION: &'static str;

    /// Reads the settings from the section.
    fn read(section: &mut Section<'_, '_>) -> Result<Self, Problem>;

    /// Warnings about valid settings that may not have the effect that the user expects beside the common keys of this
    /// configuration: the top-level key, and the message.
    fn warnings(&self, _common: &Config) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Why valid settings do not go together with the common keys of this configuration: the top-level key, and the message.
    fn contradiction(&self, _common: &Config) -> Option<(&'static str, String)> {
        None
    }
}

/// Settings of any type that can be compared.
pub trait AnySettings: Debug + Send + Sync {
    /// Whether the other settings are of the same type and equal.
    fn equals(&self, other: &dyn AnySettings) -> bool;
    /// For downcasting to the type of the settings.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any + Debug + PartialEq + Send + Sync> AnySettings for T {
    fn equals(&self, other: &dyn AnySettings) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The settings of one section.
#[derive(Clone)]
struct Entry {
    settings: Arc<dyn AnySettings>,
    spec: SectionSpec,
}

impl Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// The settings of all meters, by section. A missing section has its defaults.
#[derive(Debug, Clone, Default)]
pub struct Meters(Vec<Entry>);

impl Meters {
    /// The settings of one meter.
    pub fn get<T: MeterSettings>(&self) -> T {
        let entry = self.entry(T::SECTION);
        let settings = entry.and_then(|entry| entry.settings.as_any().downcast_ref::<T>());
        settings.cloned().unwrap_or_default()
    }

    fn entry(&self, section: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.spec.name == section)
    }

    /// Sets the settings of one meter.
    pub fn set<T: MeterSettings>(&mut self, settings: T) {
        self.0.retain(|entry| entry.spec.name != T::SECTION);
        self.0.push(Entry {
            settings: Arc::new(settings),
            spec: SectionSpec::of::<T>(),
        });
    }

    /// Changes the settings of one meter.
    pub fn edit<T: MeterSettings>(&mut self, change: impl FnOnce(&mut T)) {
        let mut settings = self.get();
        change(&mut settings);
        self.set::<T>(settings);
    }

    /// Whether the settings of a section are equal in both.
    pub fn same_section(&self, other: &Meters, section: &str) -> bool {
        match (self.entry(section), other.entry(section)) {
            (Some(one), Some(other)) => one.settings.equals(other.settings.as_ref()),
            (Some(one), None) | (None, Some(one)) => {
                one.settings.equals((one.spec.default)().as_ref())
            }
            (None, None) => true,
        }
    }

    pub(super) fn warnings(&self, common: &Config) -> Vec<(&'static str, String)> {
        let entries = self.0.iter();
        entries
            .flat_map(|entry| (entry.spec.warnings)(entry.settings.as_ref(), common))
            .collect()
    }

    pub(super) fn contradiction(&self, common: &Config) -> Option<(&'static str, String)> {
        let mut entries = self.0.iter();
        entries.find_map(|entry| (entry.spec.contradiction)(entry.settings.as_ref(), common))
    }
}

impl PartialEq for Meters {
    fn eq(&self, other: &Meters) -> bool {
        let mut entries = self.0.iter().chain(&other.0);
        entries.all(|entry| self.same_section(other, entry.spec.name))
    }
}

type Warnings = fn(&dyn AnySettings, &Config) -> Vec<(&'static str, String)>;
type Contradiction = fn(&dyn AnySettings, &Config) -> Option<(&'static str, String)>;

/// The section of one meter.
#[derive(Clone, Copy)]
pub struct SectionSpec {
    /// The key of the section in the file.
    pub name: &'static str,
    read: fn(&mut Section<'_, '_>) -> Result<Arc<dyn AnySettings>, Problem>,
    default: fn() -> Arc<dyn AnySettings>,
    show: fn(&dyn AnySettings) -> Value,
    warnings: Warnings,
    contradiction: Contradiction,
}

impl SectionSpec {
    /// The section for this type of settings.
    pub const fn of<T: MeterSettings>() -> SectionSpec {
        SectionSpec {
            name: T::SECTION,
            read: |section| Ok(Arc::new(T::read(section)?)),
            default: || Arc::new(T::default()),
            show: |settings| {
                let settings = settings.as_any().downcast_ref::<T>();
                serde_json::to_value(settings).unwrap_or_default()
            },
            warnings: |settings, common| {
                let settings = settings.as_any().downcast_ref::<T>();
                settings.map_or_else(Vec::new, |settings| settings.warnings(common))
            },
            contradiction: |settings, common| {
                let settings = settings.as_any().downcast_ref::<T>();
                settings.and_then(|settings| settings.contradiction(common))
            },
        }
    }
}

/// The keys of the configuration: the common keys, and the sections of these meters, in order.
#[derive(Clone, Copy)]
pub struct Schema {
    sections: fn() -> Vec<SectionSpec>,
}

impl Schema {
    /// A schema with these sections. Meters with the same section name share one section.
    pub const fn new(sections: fn() -> Vec<SectionSpec>) -> Schema {
        Schema { sections }
    }

    /// All sections, without duplicates.
    pub fn sections(&self) -> Vec<SectionSpec> {
        let mut sections: Vec<SectionSpec> = Vec::new();
        for spec in (self.sections)() {
            if !sections.iter().any(|known| known.name == spec.name) {
                sections.push(spec);
            }
        }
        sections
    }

    pub(super) fn read(&self, top: &mut Section<'_, '_>) -> Result<Meters, Problem> {
        let mut meters = Meters::default();
        for spec in self.sections() {
            top.section(spec.name, |section| {
                let settings = (spec.read)(section)?;
                meters.0.push(Entry { settings, spec });
                Ok(())
            })?;
        }
        Ok(meters)
    }

    /// Returns the configuration with all sections filled in.
    pub(super) fn complete(&self, config: &Config) -> Config {
        let entry = |spec: SectionSpec| {
            let entry = config.meters.entry(spec.name).cloned();
            entry.unwrap_or_else(|| Entry {
                settings: (spec.default)(),
                spec,
            })
        };
        Config {
            meters: Meters(self.sections().into_iter().map(entry).collect()),
            ..config.clone()
        }
    }
}

/// The common keys only, without any meter.
impl Default for Schema {
    fn default() -> Self {
        Schema::new(Vec::new)
    }
}

impl Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sections = self.sections();
        f.debug_list()
            .entries(sections.iter().map(|spec| spec.name))
            .finish()
    }
}

impl Serialize for Meters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for Entry { settings, spec } in &self.0 {
            map.serialize_entry(spec.name, &(spec.show)(settings.as_ref()))?;
        }
        map.end()
    }
}
