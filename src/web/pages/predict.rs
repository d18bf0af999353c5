//! `/predict`: how runs decide for a photograph, one's own or a data set's.

use askama::Template;
use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

use super::Page;
use crate::{
    domain::{ImageId, RunId, RunStatus},
    report::{PredictedLabel, Prediction, PredictionQuery, Reports, RunBrief, RunDecision, RunQuery},
    services::{Photograph, Predictor},
    web::{
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
        upload::{self, UploadForm},
    },
};

/// What the form is filled in with: the fields of a [`PredictionQuery`] as they were sent, and `image`.
#[derive(Default, Deserialize)]
#[serde(from = "Vec<(String, String)>")]
pub struct Chosen {
    fields: Vec<(String, String)>,
    image: Option<String>,
}

impl From<Vec<(String, String)>> for Chosen {
    fn from(pairs: Vec<(String, String)>) -> Self {
        let (images, fields) = pairs.into_iter().partition(|(name, _)| name == "image");
        let images: Vec<(String, String)> = images;
        Self { fields, image: images.into_iter().next().map(|(_, image)| image) }
    }
}

impl Chosen {
    fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    fn has_rule(&self) -> bool {
        ["rule", "k", "threshold"].iter().any(|name| !self.field(name).is_empty())
    }

    fn has_run(&self, run: RunId) -> bool {
        let runs = self.fields.iter().filter(|(name, _)| name == "run").flat_map(|(_, value)| value.split(','));
        runs.map(str::trim).any(|chosen| chosen == run.to_string())
    }
}

#[derive(Template)]
#[template(path = "predict/page.html")]
pub struct PredictPage {
    runs: Vec<RunBrief>,
    chosen: Chosen,
    error: Option<String>,
    result: Option<Shown>,
}

impl PredictPage {
    fn section(&self) -> &'static str {
        "predict"
    }
}

/// A prediction and what is needed to draw it.
struct Shown {
    prediction: Prediction,
    /// Where the photograph is, if a browser can show its format.
    photograph: Option<String>,
    /// The longest bar of a contribution.
    longest: f64,
}

pub async fn form(
    State(reports): State<Reports>,
    State(predictor): State<Predictor>,
    Query(chosen): Query<Chosen>,
) -> Result<(StatusCode, Page<PredictPage>), Problem> {
    let result = match &chosen.image {
        None => None,
        Some(image) => Some(of_image(&predictor, image, &chosen.fields).await),
    };
    page(&reports, chosen, result).await
}

pub async fn predict(
    State(reports): State<Reports>,
    State(predictor): State<Predictor>,
    form: UploadForm,
) -> Result<(StatusCode, Page<PredictPage>), Problem> {
    let chosen = Chosen { fields: form.fields.clone(), image: None };
    let result = of_upload(&predictor, form).await;
    page(&reports, chosen, Some(result)).await
}

async fn page(
    reports: &Reports,
    chosen: Chosen,
    result: Option<Result<Shown, Problem>>,
) -> Result<(StatusCode, Page<PredictPage>), Problem> {
    let (status, error, result) = match result.transpose() {
        Ok(result) => (StatusCode::OK, None, result),
        // What the user can mend is said beside the form; the rest has a page of its own.
        Err(problem) if problem.status().is_client_error() => {
            (problem.status(), Some(problem.detail().to_owned()), None)
        }
        Err(problem) => return Err(problem),
    };
    let query = RunQuery { status: Some(RunStatus::Succeeded), limit: Some(500), ..RunQuery::default() };
    let runs = reports.runs(&query).await?.items;
    Ok((status, Page(PredictPage { runs, chosen, error, result })))
}

async fn of_image(predictor: &Predictor, image: &str, fields: &[(String, String)]) -> Result<Shown, Problem> {
    let image: ImageId =
        image.parse().map_err(|_| Problem::invalid(format!("image: “{image}” is not an image's number")))?;
    let prediction = predictor.predict_one(Photograph::Image(image), &query(fields)?).await?;
    Ok(Shown::new(prediction, Some(format!("/images/{image}"))))
}

async fn of_upload(predictor: &Predictor, form: UploadForm) -> Result<Shown, Problem> {
    let query = query(&form.fields)?;
    let mut images = form.images.into_iter();
    let (Some(upload), None) = (images.next(), images.next()) else {
        return Err(Problem::invalid("Choose one photograph."));
    };
    let photograph = upload::data_url(&upload.bytes);
    let prediction = predictor.predict_one(upload.into(), &query).await?;
    Ok(Shown::new(prediction, photograph))
}

fn query(fields: &[(String, String)]) -> Result<PredictionQuery, Problem> {
    PredictionQuery::try_from(fields.to_vec()).map_err(Problem::invalid)
}

impl Shown {
    fn new(prediction: Prediction, photograph: Option<String>) -> Self {
        let labels = prediction.decisions.iter().flat_map(|decision| &decision.fine);
        let contributions = labels.flat_map(|label| [Some(label.contribution), label.runner_up_contribution]);
        let longest = contributions.flatten().map(f64::abs).fold(0.0, f64::max);
        Self { prediction, photograph, longest }
    }

    /// Half the track is the longest bar.
    fn length(&self, contribution: &f64) -> String {
        text::width(contribution.abs(), 2.0 * self.longest)
    }

    /// The labels whose contribution is written out in the sum, largest first; the others are summed up.
    fn addends<'a>(&self, decision: &'a RunDecision) -> Vec<&'a PredictedLabel> {
        let mut labels: Vec<_> = decision.fine.iter().collect();
        labels.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        labels.truncate(5);
        labels
    }

    /// The contribution of all labels that [`Self::addends`] leaves out.
    fn others(&self, decision: &RunDecision) -> f64 {
        let shown: f64 = self.addends(decision).iter().map(|label| label.contribution).sum();
        let listed: f64 = decision.fine.iter().map(|label| label.contribution).sum();
        decision.rest_contribution + listed - shown
    }
}
