//! Medians and spread of a few values.

use serde::{Deserialize, Serialize};

/// A few measurements of one thing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
}

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn most(&self) -> f64 {
        self.quantile(1.0)
    }

    fn quantile(&self, at: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let place = at * last as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    }
}

/// The ratio of two rows, round by round: what disturbed a round has disturbed both.
pub(crate) fn ratios(of: &Sample, to: &Sample) -> Sample {
    Sample { values: of.values.iter().zip(&to.values).map(|(of, to)| of / to).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Sample { values: vec![4.0, 1.0, 3.0, 2.0] }.median(), 2.5);
        assert_eq!(Sample { values: vec![9.0, 1.0, 3.0] }.median(), 3.0);
    }
}
