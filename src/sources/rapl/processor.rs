//! Identifies the processor, and the units of its RAPL registers.
//!
//! Sources: Intel SDM vol. 3, "RAPL Interfaces", and vol. 4, MSR_RAPL_POWER_UNIT (also for Silvermont's other meaning of
//! it) and MSR_DRAM_ENERGY_STATUS; AMD PPR for family 17h, Core::X86::Msr::RAPL_PWR_UNIT; for the models,
//! drivers/powercap/intel_rapl_common.c and arch/x86/include/asm/intel-family.h of Linux.

use super::domain::DomainKind;

/// The processor's vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Intel,
    /// AMD, and Hygon, which builds the same cores.
    Amd,
}

/// A processor, as `/proc/cpuinfo` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processor {
    pub(super) vendor: Vendor,
    family: u32,
    model: u32,
    /// Whether it runs under a hypervisor.
    pub(super) is_virtual: bool,
}

impl Processor {
    /// Parses the first processor of `/proc/cpuinfo`; `None` if it has no RAPL registers.
    pub(super) fn parse(cpuinfo: &str) -> Option<Processor> {
        let first = cpuinfo.split("\n\n").next()?;
        let value = |key: &str| {
            first
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.trim_end() == key)
                .map(|(_, value)| value.trim())
        };
        let family = value("cpu family")?.parse().ok()?;
        let vendor = match value("vendor_id")? {
            "GenuineIntel" if family >= 6 => Vendor::Intel,
            // Zen and later.
            "AuthenticAMD" if family >= 0x17 => Vendor::Amd,
            "HygonGenuine" if family >= 0x18 => Vendor::Amd,
            _ => return None,
        };
        let flags = value("flags").unwrap_or("");
        Some(Processor {
            vendor,
            family,
            model: value("model")?.parse().ok()?,
            is_virtual: flags.split_ascii_whitespace().any(|f| f == "hypervisor"),
        })
    }

    /// The energy unit of a kind of domain in joules, from the value of the unit register; `None` if that is 0.
    pub(super) fn energy_unit(&self, kind: DomainKind, unit_register: u64) -> Option<f64> {
        if unit_register == 0 {
            return None;
        }
        // Energy status units: bits 12 to 8.
        let steps = f64::from(1u32 << ((unit_register >> 8) & 0x1f));
        Some(match (self.unit_quirk(), kind) {
            (Some(UnitQuirk::ServerDram), DomainKind::Dram) => 15.3e-6,
            (Some(UnitQuirk::ServerPsys), DomainKind::Psys) => 1.0,
            (Some(UnitQuirk::Microjoules), _) => steps * 1e-6,
            _ => 1.0 / steps,
        })
    }

    fn unit_quirk(&self) -> Option<UnitQuirk> {
        if self.vendor != Vendor::Intel || self.family != 6 {
            return None;
        }
        UNIT_QUIRKS
            .iter()
            .find(|(model, _, _)| *model == self.model)
            .map(|(_, _, quirk)| *quirk)
    }
}

/// How a model's units differ from what its unit register says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitQuirk {
    /// DRAM counts in 15.3 µJ, whatever the unit register says.
    ServerDram,
    /// The platform counts in 1 J, whatever the unit register says. DRAM follows the register again.
    ServerPsys,
    /// The register holds n for 2^n µJ, not for 2^-n J.
    Microjoules,
}

/// The models of family 6 whose units differ.
const UNIT_QUIRKS: &[(u32, &str, UnitQuirk)] = &[
    (0x3f, "Haswell-X", UnitQuirk::ServerDram),
    (0x4f, "Broadwell-X", UnitQuirk::ServerDram),
    // And Cascade Lake and Cooper Lake.
    (0x55, "Skylake-X", UnitQuirk::ServerDram),
    (0x6a, "Ice Lake-X", UnitQuirk::ServerDram),
    (0x6c, "Ice Lake-D", UnitQuirk::ServerDram),
    (0x57, "Knights Landing", UnitQuirk::ServerDram),
    (0x85, "Knights Mill", UnitQuirk::ServerDram),
    (0x8f, "Sapphire Rapids-X", UnitQuirk::ServerPsys),
    (0xcf, "Emerald Rapids-X", UnitQuirk::ServerPsys),
    (0x37, "Silvermont (Bay Trail)", UnitQuirk::Microjoules),
    (0x4a, "Silvermont (Merrifield)", UnitQuirk::Microjoules),
    (0x5a, "Airmont (Moorefield)", UnitQuirk::Microjoules),
    // The first LattePanda's Atom x5-Z8350.
    (0x4c, "Airmont (Cherry Trail)", UnitQuirk::Microjoules),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn cpuinfo(vendor: &str, family: u32, model: u32, flags: &str) -> String {
        format!(
            "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
             model name\t: Some Processor: 9\nstepping\t: 1\nflags\t\t: fpu vme {flags} sse2\n\n\
             processor\t: 1\nvendor_id\t: Other\n"
        )
    }

    fn intel(model: u32) -> Processor {
        Processor::parse(&cpuinfo("GenuineIntel", 6, model, "")).unwrap()
    }

    #[test]
    fn processor_is_identified_by_vendor_and_family() {
        let parse =
            |vendor, family| Processor::parse(&cpuinfo(vendor, family, 1, "")).map(|p| p.vendor);
        assert_eq!(parse("GenuineIntel", 6), Some(Vendor::Intel));
        assert_eq!(parse("GenuineIntel", 5), None);
        assert_eq!(parse("AuthenticAMD", 25), Some(Vendor::Amd));
        assert_eq!(parse("AuthenticAMD", 21), None);
        assert_eq!(parse("HygonGenuine", 24), Some(Vendor::Amd));
        assert_eq!(parse("CentaurHauls", 6), None);
        for garbage in [
            "",
            ":",
            "\n\n",
            "vendor_id: GenuineIntel",
            "cpu family : 99999999999\nvendor_id : GenuineIntel\nmodel : 1",
            "Processor\t: AArch64 Processor rev 1\n",
        ] {
            assert_eq!(Processor::parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn hypervisor_flag_marks_a_virtual_machine() {
        assert!(!intel(0x55).is_virtual);
        let guest = cpuinfo("GenuineIntel", 6, 0x55, "hypervisor");
        assert!(Processor::parse(&guest).unwrap().is_virtual);
    }

    #[test]
    fn units_come_from_the_register_except_on_some_models() {
        // Power unit 3, energy unit 14, time unit 10: as most of them say.
        let register = 0x000a_0e03;
        let unit = |model, kind| intel(model).energy_unit(kind, register).unwrap();
        assert_eq!(unit(0x9e, DomainKind::Package), 1.0 / 16384.0);
        assert_eq!(unit(0x9e, DomainKind::Dram), 1.0 / 16384.0);
        assert_eq!(unit(0x55, DomainKind::Package), 1.0 / 16384.0);
        assert_eq!(unit(0x55, DomainKind::Dram), 15.3e-6);
        assert_eq!(unit(0x8f, DomainKind::Dram), 1.0 / 16384.0);
        assert_eq!(unit(0x8f, DomainKind::Psys), 1.0);
        // Bay Trail says 5 for 32 µJ.
        let silvermont = intel(0x37).energy_unit(DomainKind::Package, 0x0000_0505);
        assert!((silvermont.unwrap() - 32e-6).abs() < 1e-12);
        // Zen says 16.
        let zen = Processor::parse(&cpuinfo("AuthenticAMD", 25, 0x55, "")).unwrap();
        assert_eq!(
            zen.energy_unit(DomainKind::Package, 0x000a_1003),
            Some(1.0 / 65536.0)
        );
        assert_eq!(intel(0x9e).energy_unit(DomainKind::Package, 0), None);
        assert!(
            intel(0x9e)
                .energy_unit(DomainKind::Package, u64::MAX)
                .unwrap()
                > 0.0
        );
    }
}
