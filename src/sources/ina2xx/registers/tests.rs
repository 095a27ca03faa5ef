use super::*;

const ONCE: Conversion = Conversion {
    averaging: 1,
    microseconds: 532,
};

fn measure(map: &dyn RegisterMap, words: &[u64]) -> Option<Vec<Measured>> {
    let mut measured = Vec::new();
    map.measure(words, &mut measured).then_some(measured)
}

/// Volts, amperes and watts of a chip with one rail.
fn reading(map: &dyn RegisterMap, words: &[u64]) -> (f64, f64, f64) {
    let measured = measure(map, words).unwrap();
    assert_eq!(measured.len(), 1);
    assert!(!measured[0].is_clipped);
    let Reading {
        volts,
        amperes,
        watts,
    } = measured[0].reading;
    (volts, amperes, watts)
}

fn is_clipped(map: &dyn RegisterMap, words: &[u64]) -> bool {
    measure(map, words).unwrap()[0].is_clipped
}

#[test]
fn ina219_by_its_data_sheet() {
    let chip = Ina219::new(Shunt::new(0.1), 3, ONCE);
    // The data sheet's example (table 8): 12 V at the bus and 20 mV across a shunt, here of 2 mΩ: 10 A.
    let of_2_milliohms = Ina219::new(Shunt::new(0.002), 3, ONCE);
    assert_eq!(
        reading(&of_2_milliohms, &[0x07D0, 0x5D98, 0]),
        (11.98, 10.0, 119.8)
    );
    // Flags in the lowest bits are no voltage.
    assert_eq!(
        reading(&chip, &[1000, 3000 << 3 | 0b11, 7]),
        (12.0, 0.1, 1.2)
    );
    // Negative: -320 mV is 0x8300, the data sheet's table 7.
    assert_eq!(signed16(0x8300), -32_000);
    assert_eq!(
        reading(&chip, &[0x8301, 1250 << 3, 0]),
        (5.0, -3.1999, -15.9995)
    );
    assert_eq!(reading(&chip, &[1, 1 << 3, 0]), (0.004, 0.0001, 4e-7));
    // The ends of the four ranges.
    for (range, full) in [(0, 4000), (1, 8000), (2, 16_000), (3, 32_000)] {
        let chip = Ina219::new(Shunt::new(0.1), range, ONCE);
        assert!(is_clipped(&chip, &[full, 0, 0]));
        assert!(is_clipped(&chip, &[0x1_0000 - full, 0, 0]));
        assert!(!is_clipped(&chip, &[full - 1, 0, 0]));
    }
    assert_eq!(measure(&chip, &[0xFFFF, 0xFFFF, 0xFFFF]), None);
    assert_eq!(measure(&chip, &[0, 0]), None);
}

#[test]
fn ina226_by_its_data_sheet() {
    // The data sheet's example (table 2): 11.98 V, 20 mV across 2 mΩ.
    let chip = Ina226::new(Shunt::new(0.002), ONCE);
    assert_eq!(reading(&chip, &[0x1F40, 0x2570]), (11.98, 10.0, 119.8));
    // -80 mV is 0x8300.
    assert_eq!(reading(&chip, &[0x8300, 0x2580]), (12.0, -40.0, -480.0));
    assert_eq!(reading(&chip, &[1, 1]), (0.00125, 0.00125, 1.5625e-6));
    assert!(is_clipped(&chip, &[0x7FFF, 0]) && is_clipped(&chip, &[0x8000, 0]));
    assert!(!is_clipped(&chip, &[0x7FFE, 0]) && !is_clipped(&chip, &[0x8001, 0]));
    assert_eq!(measure(&chip, &[0, 0x8000]), None);
    assert_eq!(measure(&chip, &[0xFFFF, 0xFFFF]), None);
    // A power of 0 has no sign.
    let (_, _, watts) = reading(&chip, &[0, 0x2570]);
    assert_eq!(watts.to_bits(), 0.0_f64.to_bits());
}

#[test]
fn ina228_by_its_data_sheet() {
    let of = |range| Ina228::new(ina228::Kind::Ina228, Shunt::new(0.015), range, ONCE);
    let (small, large) = (of(0), of(1));
    // 48 V are 245760 units of 195.3125 µV; 150 mV are 480000 of 312.5 nV.
    let words = |shunt: u64, bus: u64| [shunt << 4, bus << 4, 0];
    assert_eq!(
        reading(&large, &words(480_000, 245_760)),
        (48.0, 10.0, 480.0)
    );
    assert_eq!(
        reading(&small, &words(480_000, 245_760)),
        (48.0, 2.5, 120.0)
    );
    let negative = 0x10_0000 - 480_000;
    assert_eq!(
        reading(&large, &words(negative, 245_760)),
        (48.0, -10.0, -480.0)
    );
    // The data sheet's unit of the energy: 16 × 3.2 × CURRENT_LSB.
    for (chip, nanovolts) in [(&large, 312.5), (&small, 78.125)] {
        let measured = measure(chip, &[0, 0, 0xFF_0000_0001]).unwrap();
        let (raw, joules) = measured[0].counted.unwrap();
        assert_eq!(raw, 0xFF_0000_0001);
        let wanted = 16.0 * 3.2 * nanovolts * 1e-9 / 0.015;
        assert!((joules / wanted - 1.0).abs() < 1e-12, "{joules}");
    }
    assert!(is_clipped(&large, &words(0x7_FFFF, 0)) && is_clipped(&large, &words(0x8_0000, 0)));
    assert!(!is_clipped(&large, &words(0x7_FFFE, 0)));
    assert_eq!(
        measure(&large, &[0xFF_FFFF, 0xFF_FFFF, 0xFF_FFFF_FFFF]),
        None
    );
}

#[test]
fn ina238_by_its_data_sheet() {
    for kind in [ina228::Kind::Ina237, ina228::Kind::Ina238] {
        let of = |range| Ina228::new(kind, Shunt::new(0.015), range, ONCE);
        let (small, large) = (of(0), of(1));
        // 48 V are 15360 units of 3.125 mV; 150 mV are 30000 of 5 µV.
        assert_eq!(reading(&large, &[30_000, 15_360]), (48.0, 10.0, 480.0));
        assert_eq!(reading(&small, &[30_000, 15_360]), (48.0, 2.5, 120.0));
        assert_eq!(
            reading(&large, &[0x1_0000 - 30_000, 15_360]),
            (48.0, -10.0, -480.0)
        );
        assert_eq!(measure(&large, &[1, 1]).unwrap()[0].counted, None);
        assert!(is_clipped(&large, &[0x7FFF, 0]) && is_clipped(&large, &[0x8000, 0]));
        assert_eq!(measure(&large, &[0xFFFF, 0xFFFF]), None);
        assert_eq!(measure(&large, &[0, 0, 0]), None);
    }
}

#[test]
fn ina3221_by_its_data_sheet() {
    let shunt = Some(Shunt::new(0.05));
    let chip = Ina3221::new([shunt, None, shunt], ONCE);
    let registers: Vec<_> = chip.values().iter().map(|r| r.pointer).collect();
    assert_eq!(registers, [1, 2, 5, 6], "the second channel is off");
    // The data sheet's example (8.6.2.2): -80 mV is 0xC180. 80 mV is 0x3E80.
    let measured = measure(&chip, &[0x3E80, 1500 << 3, 0xC180, 625 << 3]).unwrap();
    let values = |n: usize| {
        let Reading {
            volts,
            amperes,
            watts,
        } = measured[n].reading;
        (volts, amperes, watts)
    };
    assert_eq!(values(0), (12.0, 1.6, 19.2));
    assert_eq!(values(1), (5.0, -1.6, -8.0));
    let clipped = |word| {
        let measured = measure(&chip, &[word, 0, 8, 0]).unwrap();
        (measured[0].is_clipped, measured[1].is_clipped)
    };
    assert_eq!(clipped(0x7FF8), (true, false));
    assert_eq!(clipped(0x8000), (true, false));
    assert_eq!(clipped(0x7FF0), (false, false));
    assert_eq!(measure(&chip, &[0xFFFF; 4]), None);
    assert_eq!(measure(&chip, &[0; 6]), None);
}

#[test]
fn only_the_configured_chip_is_identified() {
    let shunt = Shunt::new(0.1);
    let ina228 = |kind| Ina228::new(kind, shunt, 1, ONCE);
    let chips: [(&dyn RegisterMap, u64); 4] = [
        (&Ina226::new(shunt, ONCE), 0x2260),
        (&ina228(ina228::Kind::Ina228), 0x2281),
        (&ina228(ina228::Kind::Ina238), 0x2381),
        (&Ina3221::new([Some(shunt); 3], ONCE), 0x3220),
    ];
    for (n, (chip, die)) in chips.iter().enumerate() {
        assert_eq!(chip.identify(&[0x5449, *die]), Ok(()));
        assert_eq!(chip.identify(&[0x5449, *die | 0xF]), Ok(()), "a revision");
        for (m, (_, other)) in chips.iter().enumerate() {
            assert_eq!(chip.identify(&[0x5449, *other]).is_ok(), n == m);
        }
        for words in [[0x4954, *die], [0xFFFF, 0xFFFF], [0, 0], [0x5449, 0x2270]] {
            assert!(chip.identify(&words).is_err(), "{words:x?}");
        }
    }
    let error = chips[0].0.identify(&[0x5449, 0x2270]).unwrap_err();
    assert_eq!(error, "manufacturer 0x5449, die 0x2270, as an INA260 does");
    let ina237 = ina228(ina228::Kind::Ina237);
    assert_eq!(ina237.identify(&[0x5449, 0]), Ok(()), "no die register");
    assert!(ina237.identify(&[0x5449, 0x2281]).is_err(), "an INA228");
    assert!(ina237.identify(&[0xFFFF, 0xFFFF]).is_err());
}

#[test]
fn ina219_is_known_by_its_zeros() {
    let chip = Ina219::new(Shunt::new(0.1), 3, ONCE);
    assert_eq!(chip.identify(&[0x399F, 0x1F42, 0]), Ok(()), "after a reset");
    assert_eq!(chip.identify(&[0x0EEF, 0x1F42, 0x68F4]), Ok(()), "in use");
    for words in [
        [0xFFFF, 0xFFFF, 0xFFFF],
        // The configurations of INA226, INA260, INA3221 and INA228 after a reset.
        [0x4127, 0, 0],
        [0x6127, 0, 0],
        [0x7127, 0, 0],
        [0, 0, 0],
        [0x399F, 0x0004, 0],
        [0x399F, 0, 1],
        [0xB99F, 0, 0],
    ] {
        assert!(chip.identify(&words).is_err(), "{words:x?}");
    }
    let error = chip.identify(&[0x4127, 0, 0]).unwrap_err();
    assert!(error.ends_with("0x4127, 0x0000, 0x0000"), "{error}");
}

#[test]
fn settings_are_the_data_sheets_codes() {
    let word = |map: &dyn RegisterMap| {
        let last = map.settings().last().copied().unwrap();
        (last.pointer, last.word)
    };
    let shunt = Shunt::new(0.1);
    let conversion = |averaging, microseconds| Conversion {
        averaging,
        microseconds,
    };
    // The values after a reset, which are 12 bits, ±320 mV, 32 V; and 128 samples.
    assert_eq!(word(&Ina219::new(shunt, 3, ONCE)), (0, 0x399F));
    assert_eq!(
        word(&Ina219::new(shunt, 0, conversion(128, 532))),
        (0, 0x27FF)
    );
    assert_eq!(word(&Ina219::new(shunt, 3, conversion(1, 84))), (0, 0x3807));
    // Linux's driver writes 0x4527: 16 samples.
    assert_eq!(word(&Ina226::new(shunt, conversion(16, 1100))), (0, 0x4527));
    // 0xFB68 is after a reset, with the temperature.
    let ina228 = Ina228::new(ina228::Kind::Ina228, shunt, 0, conversion(1024, 1052));
    assert_eq!(word(&ina228), (1, 0xBB6F));
    let all: Vec<_> = ina228
        .settings()
        .iter()
        .map(|s| (s.pointer, s.word))
        .collect();
    assert_eq!(all, [(0, 0x0010), (2, 0x1000), (0xB, 0x8000), (1, 0xBB6F)]);
    let ina3221 = Ina3221::new([Some(shunt), None, Some(shunt)], conversion(1, 1100));
    assert_eq!(word(&ina3221), (0, 0x5127));
    assert_eq!(ina3221.time(), Duration::from_micros(4400));
    assert_eq!(
        Ina219::new(shunt, 3, conversion(128, 532)).time(),
        Duration::from_micros(2 * 68_096)
    );
}
