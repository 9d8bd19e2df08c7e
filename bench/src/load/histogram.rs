//! Latencies in a fixed number of counters, precise to less than one percent.

use std::time::Duration;

/// Sub-buckets of each power of two.
const STEPS: u64 = 128;
/// Powers of two of nanoseconds that are told apart, up to about 18 minutes.
const POWERS: usize = 34;

/// Counts of durations, from which percentiles are read.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS as usize * (POWERS + 1)], total: 0, highest: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[slot(nanos).min(last)] += 1;
        self.total += 1;
        self.highest = self.highest.max(nanos);
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.highest = self.highest.max(other.highest);
    }

    /// How many durations were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// The duration, in microseconds, that the share `quantile` (0 to 1) of all do not exceed.
    /// Zero when nothing was counted.
    pub fn micros(&self, quantile: f64) -> f64 {
        let wanted = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return middle(index).min(self.highest as f64) / 1_000.0;
            }
        }
        0.0
    }

    /// The longest duration, in microseconds.
    pub fn max_micros(&self) -> f64 {
        self.highest as f64 / 1_000.0
    }
}

fn slot(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = nanos.ilog2() - STEPS.ilog2();
    let within = (nanos >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + within) as usize
}

fn middle(index: usize) -> f64 {
    let index = index as u64;
    if index < STEPS {
        return index as f64;
    }
    let power = index / STEPS - 1;
    let low = (STEPS + index % STEPS) << power;
    low as f64 + (1u64 << power) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_one_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (quantile, expected) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = histogram.micros(quantile);
            assert!((found - expected).abs() / expected < 0.01, "{quantile}: {found}");
        }
    }

    #[test]
    fn nothing_counted_is_zero_and_the_longest_is_kept() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.micros(0.5), 0.0);
        histogram.record(Duration::from_secs(4_000));
        assert_eq!(histogram.max_micros(), 4e9);
    }
}
