//! How many losses chance may hide.

/// So sure a bound is: with more losses to be expected than it says, as few as were seen would be seen less often than this.
const CHANCE: f64 = 0.05;

/// The most events that are to be expected where `seen` happened, at a confidence of 95 %: the exact upper limit for a Poisson process, half
/// of the quantile 0.95 of chi-square with 2·(`seen` + 1) degrees of freedom; the "rule of three" where none was seen.
///
/// Source: N. Gehrels, Confidence limits for small numbers of events in astrophysical data, `ApJ` 303 (1986), equation 8.
#[must_use]
pub fn most_events(seen: u64) -> f64 {
    let seen = seen as f64;
    // What is to be expected lies between these: the chance of so few falls with it.
    let (mut low, mut high) = (seen, seen + 10.0 * seen.sqrt() + 10.0);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return high;
        }
        if chance_of_at_most(seen, middle) > CHANCE { low = middle } else { high = middle }
    }
}

/// The chance that no more than `most` happen where `expected` are to be.
fn chance_of_at_most(most: f64, expected: f64) -> f64 {
    // From the likeliest, `most` itself, down: each term is the one before times (n / expected), and n is less than expected.
    let (mut term, mut sum, mut n) = (1.0_f64, 1.0_f64, most);
    while n > 0.0 && term > f64::EPSILON * sum {
        term *= n / expected;
        sum += term;
        n -= 1.0;
    }
    let ln_factorial: f64 = (1..=most as u64).map(|n| (n as f64).ln()).sum();
    (most * expected.ln() - expected - ln_factorial).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1 of the source, confidence 0.95, as it rounds.
    #[test]
    fn limits_are_those_that_are_published() {
        let published = [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (4, 9.154), (5, 10.51), (10, 16.96), (20, 29.06), (50, 63.29)];
        for (seen, limit) in published {
            let found = most_events(seen);
            assert!((found / limit - 1.0_f64).abs() < 5e-4, "{seen}: {found}");
        }
    }

    #[test]
    fn without_an_event_it_is_the_logarithm_and_it_never_falls() {
        assert!((most_events(0) - 20.0_f64.ln()).abs() < 1e-12);
        let limits: Vec<_> = (0..300).map(most_events).collect();
        assert!(limits.is_sorted() && limits.iter().enumerate().all(|(seen, limit)| *limit > seen as f64));
        let many = most_events(1_000_000);
        assert!(many > 1_001_640.0 && many < 1_001_650.0, "{many}");
    }
}
