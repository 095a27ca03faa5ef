//! The last values of a rail as a line of characters.

/// From the lowest value to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];
/// The range of a line is at least this part of its highest value: the noise of a constant load is not blown up.
const MIN_RANGE: f64 = 0.1;

/// The last values, the newest at the right, in so many columns. A value that is missing is a space.
pub(super) fn sparkline(
    values: impl DoubleEndedIterator<Item = Option<f64>>,
    columns: usize,
    unicode: bool,
) -> String {
    let mut values: Vec<_> = values.rev().take(columns).collect();
    values.reverse();
    let bars = if unicode { BARS } else { ASCII_BARS };
    let Some((low, high)) = range(values.iter().flatten().copied()) else {
        return " ".repeat(columns);
    };
    let span = (high - low).max(high.abs().max(low.abs()) * MIN_RANGE);
    let bottom = (low + high - span) / 2.0;
    let bar = |value: &Option<f64>| match value {
        // A board that draws nothing has the lowest bar.
        Some(value) if span > 0.0 => {
            // Rounding decides nothing: a constant load is at the same height at every power.
            let step = ((value - bottom) / span * bars.len() as f64 + 1e-9) as usize;
            bars[step.min(bars.len() - 1)]
        }
        Some(_) => bars[0],
        None => ' ',
    };
    let empty = " ".repeat(columns - values.len());
    empty.chars().chain(values.iter().map(bar)).collect()
}

/// The least and the greatest value; `None` without any.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64], columns: usize) -> String {
        sparkline(values.iter().copied().map(Some), columns, true)
    }

    #[test]
    fn values_are_between_the_lowest_and_the_highest_bar() {
        assert_eq!(
            line(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8),
            "▁▂▃▄▅▆▇█"
        );
        assert_eq!(line(&[5.0, 10.0], 4), "  ▁█");
        assert_eq!(line(&[1.0, 2.0, 5.0, 10.0], 2), "▁█");
        assert_eq!(line(&[], 3), "   ");
        assert_eq!(line(&[1.0], 0), "");
    }

    #[test]
    fn noise_of_a_constant_load_stays_small() {
        assert_eq!(line(&[10.0, 10.01, 10.0, 9.99], 4), "▅▅▅▄");
        assert_eq!(line(&[0.0, 0.0], 2), "▁▁");
        assert_eq!(line(&[-5.0, -5.0], 2), "▅▅");
    }

    #[test]
    fn missing_value_is_a_space_and_ascii_has_bars_as_well() {
        let values = [Some(1.0), None, Some(9.0)];
        assert_eq!(sparkline(values.into_iter(), 3, true), "▁ █");
        assert_eq!(sparkline(values.into_iter(), 3, false), "_ #");
    }
}
