//! Mean and 95 % confidence interval of repeated measurements. Pure.

/// Of several values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval that has the true mean with a probability of 95 %, if the values are independent and
    /// normally distributed; `None` for a single value.
    pub half_width: Option<f64>,
}

/// The 0.975 quantiles of Student's t distribution for 1 to 30 degrees of freedom.
const QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The 0.975 quantile for any number of degrees of freedom, from 1.
fn quantile(freedom: usize) -> f64 {
    if let Some(known) = freedom.checked_sub(1).and_then(|i| QUANTILES.get(i)) {
        return *known;
    }
    // The expansion around the normal distribution's quantile (Abramowitz and Stegun, 26.7.5), whose next term is below 10^-4
    // here.
    let (z, n) = (1.959_964_f64, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * n)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}

/// The estimate from these values; `None` if there are none.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let half_width = (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        quantile(values.len() - 1) * deviation / count.sqrt()
    });
    Some(Estimate { mean, half_width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_students() {
        assert_eq!(estimate(&[]), None);
        let single = Estimate {
            mean: 3.0,
            half_width: None,
        };
        assert_eq!(estimate(&[3.0]), Some(single));
        // A deviation of 0.27386, times 2.776, by the square root of 5.
        let five = estimate(&[9.8, 10.2, 10.1, 9.9, 10.5]).unwrap();
        assert!((five.mean - 10.1).abs() < 1e-12);
        assert!((five.half_width.unwrap() - 0.34).abs() < 1e-3, "{five:?}");
        let same = estimate(&[2.0; 40]).unwrap();
        assert_eq!((same.mean, same.half_width), (2.0, Some(0.0)));
    }

    #[test]
    fn quantiles_of_many_go_on_from_those_of_few() {
        // As in printed tables.
        for (freedom, expected) in [(31, 2.0395), (60, 2.0003), (120, 1.9799), (1_000_000, 1.96)] {
            assert!(
                (quantile(freedom) - expected).abs() < 1e-3,
                "{freedom}: {}",
                quantile(freedom)
            );
        }
        assert_eq!(quantile(1), 12.706);
    }
}
