//! The learning rate of each step.

use std::f64::consts::PI;

use crate::domain::{RunSpec, spec::Schedule};

/// Learning rates of a run with this many steps per epoch.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    schedule: Schedule,
    highest: f64,
    warmup: f64,
    total: f64,
}

impl LearningRate {
    /// The run's.
    pub fn new(spec: &RunSpec, steps_per_epoch: usize) -> Self {
        let steps = |epochs: f64| (epochs * steps_per_epoch as f64).round();
        Self {
            schedule: spec.schedule,
            highest: spec.learning_rate,
            warmup: steps(spec.warmup_epochs),
            total: steps(spec.epochs as f64),
        }
    }

    /// At `step` (from 0) of the whole run: a line up to the highest rate, which the last step of the warm-up has, then
    /// the schedule over the steps that are left.
    pub fn at(self, step: usize) -> f64 {
        let step = step as f64;
        if step < self.warmup {
            return self.highest * (step + 1.0) / self.warmup;
        }
        match self.schedule {
            Schedule::Constant => self.highest,
            Schedule::Step => self.highest * 0.1f64.powf((3.0 * step / self.total).floor()),
            Schedule::Cosine => {
                let done = (step - self.warmup) / (self.total - self.warmup);
                self.highest * 0.5 * (1.0 + (PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{Backbone, Objective};

    /// Ten steps per epoch, nine epochs, one of warm-up, highest rate 1.
    fn rate(schedule: Schedule) -> LearningRate {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::CoarseOnly).with(|spec| {
            (spec.schedule, spec.epochs, spec.learning_rate, spec.warmup_epochs) = (schedule, 9, 1.0, 1.0);
        });
        LearningRate::new(&spec.unwrap(), 10)
    }

    #[test]
    fn every_schedule_warms_up_in_a_line() {
        for &schedule in Schedule::ALL {
            assert_eq!((rate(schedule).at(0), rate(schedule).at(4), rate(schedule).at(9)), (0.1, 0.5, 1.0));
        }
    }

    #[test]
    fn after_the_warm_up_the_rate_follows_its_schedule() {
        assert_eq!(rate(Schedule::Constant).at(89), 1.0);
        let step: Vec<f64> = [29, 30, 59, 60, 89].map(|at| rate(Schedule::Step).at(at)).into();
        for (found, expected) in step.iter().zip([1.0, 0.1, 0.1, 0.01, 0.01]) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        let cosine = rate(Schedule::Cosine);
        assert_eq!(cosine.at(10), 1.0);
        assert!((cosine.at(50) - 0.5).abs() < 1e-15);
        assert!(cosine.at(89) > 0.0 && cosine.at(89) < 1e-3);
    }

    #[test]
    fn a_run_that_only_warms_up_never_divides_by_zero() {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::CoarseOnly)
            .with(|spec| (spec.epochs, spec.warmup_epochs, spec.learning_rate) = (1, 1.0, 1.0));
        let rate = LearningRate::new(&spec.unwrap(), 4);
        assert_eq!((0..4).map(|step| rate.at(step)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
    }
}
