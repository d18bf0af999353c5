//! Curves of several runs over one another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Reports, RunBrief, reports::brief};
use crate::{
    domain::{EpochPoint, RunId},
    error::{Error, Result},
};

/// More lines than this nobody can tell apart.
pub const MAX_CURVES: usize = 24;

/// How many of the newest runs can be chosen from a list.
const CHOICES: usize = 200;

/// What is drawn of each epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Mean training loss.
    TrainingLoss,
    /// Mean loss on the validation split.
    #[default]
    ValidationLoss,
    /// IA on the validation split, under each run's own rule.
    ValidationIa,
    /// Coarse accuracy on the validation split.
    ValidationCoarseAccuracy,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::TrainingLoss, Self::ValidationLoss, Self::ValidationIa, Self::ValidationCoarseAccuracy];

    /// As it stands in addresses and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrainingLoss => "training-loss",
            Self::ValidationLoss => "validation-loss",
            Self::ValidationIa => "validation-ia",
            Self::ValidationCoarseAccuracy => "validation-coarse-accuracy",
        }
    }

    /// As it is read.
    pub fn words(self) -> &'static str {
        match self {
            Self::TrainingLoss => "training loss",
            Self::ValidationLoss => "validation loss",
            Self::ValidationIa => "validation IA",
            Self::ValidationCoarseAccuracy => "validation coarse accuracy",
        }
    }

    /// Whether it is a loss, and no share of images.
    pub fn is_loss(self) -> bool {
        match self {
            Self::TrainingLoss | Self::ValidationLoss => true,
            Self::ValidationIa | Self::ValidationCoarseAccuracy => false,
        }
    }

    fn of(self, point: &EpochPoint) -> Option<f64> {
        match self {
            Self::TrainingLoss => Some(point.train_loss),
            Self::ValidationLoss => point.validation_loss,
            Self::ValidationIa => point.validation_ia,
            Self::ValidationCoarseAccuracy => point.validation_coarse_accuracy,
        }
    }
}

/// What the curves are drawn over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Along {
    /// Epochs.
    #[default]
    Epoch,
    /// Seconds spent in epochs so far.
    Seconds,
}

impl Along {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Epoch, Self::Seconds];

    /// As it stands in addresses and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Seconds => "seconds",
        }
    }
}

macro_rules! by_name {
    ($($name:ident)+) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                let names = Self::ALL.map(Self::as_str).join(", ");
                let found = Self::ALL.into_iter().find(|value| value.as_str() == text);
                found.ok_or_else(|| format!("“{text}” is none of {names}"))
            }
        })+
    };
}

by_name! { Measure Along }

/// `run=ID&run=ID&measure=&x=`; `run` may also hold several ids, comma separated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct CurvesQuery {
    /// The runs, each once, in the order given.
    pub runs: Vec<RunId>,
    /// Validation loss by default.
    pub measure: Measure,
    /// By epochs by default.
    pub x: Along,
}

impl TryFrom<Vec<(String, String)>> for CurvesQuery {
    type Error = String;

    fn try_from(pairs: Vec<(String, String)>) -> std::result::Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "run" => {
                    for id in value.split(',') {
                        let run = id.trim().parse().map_err(|_| format!("run: “{id}” is not a run's number"))?;
                        if !query.runs.contains(&run) {
                            query.runs.push(run);
                        }
                    }
                }
                "measure" => query.measure = value.parse().map_err(|error| format!("measure: {error}"))?,
                "x" => query.x = value.parse().map_err(|error| format!("x: {error}"))?,
                unknown => return Err(format!("unknown field `{unknown}`, expected one of `run`, `measure`, `x`")),
            }
        }
        Ok(query)
    }
}

/// `GET /api/v1/curves`: one measure of several runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurvesReport {
    /// What `value` of each point is.
    pub measure: Measure,
    /// What the page draws it over; each point has both.
    pub x: Along,
    /// One for each run, in the order asked for.
    pub curves: Vec<Curve>,
}

/// The curve of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// The run.
    pub run: RunBrief,
    /// The epoch whose weights were kept, once it succeeded.
    pub kept_epoch: Option<u32>,
    /// One point per finished epoch.
    pub points: Vec<CurvePoint>,
}

/// One epoch of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// From 1.
    pub epoch: u32,
    /// Wall-clock seconds of this epoch and those before it.
    pub seconds: f64,
    /// The measure; `None` where the run has none, such as IA of a coarse-only run.
    pub value: Option<f64>,
}

impl Reports {
    /// One measure of several runs; without runs, an empty report.
    pub async fn curves(&self, query: &CurvesQuery) -> Result<CurvesReport> {
        let CurvesQuery { runs, measure, x } = query;
        if runs.len() > MAX_CURVES {
            return Err(Error::Invalid(format!(
                "run: {} runs are more than the {MAX_CURVES} whose curves can be told apart; name fewer",
                runs.len()
            )));
        }
        let mut curves = Vec::with_capacity(runs.len());
        for &run in runs {
            let row = self.store.run(run).await?;
            let points = points(&self.store.epochs(run).await?, *measure);
            curves.push(Curve { kept_epoch: row.kept_epoch, run: brief(row), points });
        }
        Ok(CurvesReport { measure: *measure, x: *x, curves })
    }

    /// The newest runs, whose curves can be added to these.
    pub async fn curve_choices(&self, chosen: &[RunId]) -> Result<Vec<RunBrief>> {
        let newest = self.runs_that(|_| true).await?.into_iter().take(CHOICES);
        Ok(newest.filter(|row| !chosen.contains(&row.id)).map(brief).collect())
    }
}

fn points(epochs: &[EpochPoint], measure: Measure) -> Vec<CurvePoint> {
    let sum = |seconds: &mut f64, point: &EpochPoint| {
        *seconds += point.seconds;
        Some(CurvePoint { epoch: point.epoch, seconds: *seconds, value: measure.of(point) })
    };
    epochs.iter().scan(0.0, sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> std::result::Result<CurvesQuery, String> {
        Vec::from_iter(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()))).try_into()
    }

    #[test]
    fn each_run_is_there_once_in_the_order_given() {
        let query = query(&[("run", "3"), ("run", "1,3"), ("x", "seconds"), ("measure", "validation-ia")]).unwrap();
        assert_eq!(query.runs, [RunId(3), RunId(1)]);
        assert_eq!((query.measure, query.x), (Measure::ValidationIa, Along::Seconds));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        assert!(query(&[("run", "x")]).unwrap_err().contains("“x” is not a run's number"));
        assert!(query(&[("x", "days")]).unwrap_err().contains("x: “days” is none of epoch, seconds"));
        assert!(query(&[("measure", "loss")]).unwrap_err().contains("none of training-loss, validation-loss"));
        assert!(query(&[("runs", "1")]).unwrap_err().contains("unknown field `runs`"));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for measure in Measure::ALL {
            assert_eq!(serde_json::to_value(measure).unwrap(), measure.as_str());
        }
        for along in Along::ALL {
            assert_eq!(serde_json::to_value(along).unwrap(), along.as_str());
        }
    }
}
