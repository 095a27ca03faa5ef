//! Sorting with one copy of the standard library's sort in the binary. `slice::sort` adds 4 KB of machine code for each
//! element type and order it is used with, which is more than a board's short lists are worth.

use std::cmp::Ordering;

/// Sorts `items` by `compare`. Equal items keep their order.
///
/// Allocates eight bytes an item.
pub fn sort_by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let mut sources = order(items.len(), &mut |a, b| compare(&items[a], &items[b]));
    // Each cycle of the permutation is followed once: `sources[i]` is where the item of place `i` comes from.
    for start in 0..items.len() {
        let mut place = start;
        loop {
            let source = std::mem::replace(&mut sources[place], place);
            if source == start {
                break;
            }
            items.swap(place, source);
            place = source;
        }
    }
}

/// Sorts `items` in their own order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The places of the items in ascending order.
#[inline(never)]
fn order(len: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..len).collect();
    places.sort_by(|a, b| compare(*a, *b));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_is_that_of_the_standard_sort() {
        let mut state = 1u64;
        for len in 0..200 {
            let mut random = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state >> 60
            };
            // The second part tells whether equal items keep their order.
            let mut items: Vec<(u64, usize)> = (0..len).map(|i| (random(), i)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by(&mut items, |a, b| a.0.cmp(&b.0));
            assert_eq!(items, expected);
            let mut texts: Vec<String> = items.iter().map(|(key, i)| format!("{i}{key}")).collect();
            let mut expected = texts.clone();
            expected.sort();
            sort(&mut texts);
            assert_eq!(texts, expected);
        }
    }
}
