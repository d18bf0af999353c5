//! `/predict`: the decision path of one's own photograph.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::{RunId, RunStatus},
    report::{PredictedLabel, Prediction, Reports, RunBrief, RunQuery},
    services::Predictor,
    web::{
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
        predict::PredictionQuery,
        upload::{self, UploadForm},
    },
};

/// What the form is filled in with.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    run: Option<RunId>,
    rule: Option<String>,
    k: Option<String>,
    threshold: Option<String>,
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
    fn is_chosen(&self, run: &RunBrief) -> bool {
        self.chosen.run == Some(run.id)
    }

    fn section(&self) -> &'static str {
        "predict"
    }
}

/// A prediction and what is needed to draw it.
struct Shown {
    prediction: Prediction,
    /// The image itself, if a browser can show its format.
    image: Option<String>,
    /// The longest bar of a contribution.
    longest: f64,
}

pub async fn form(State(reports): State<Reports>, Query(chosen): Query<Chosen>) -> Result<Page<PredictPage>, Problem> {
    Ok(Page(PredictPage { runs: finished(&reports).await?, chosen, error: None, result: None }))
}

pub async fn predict(
    State(reports): State<Reports>,
    State(predictor): State<Predictor>,
    form: UploadForm,
) -> Result<(axum::http::StatusCode, Page<PredictPage>), Problem> {
    let chosen = Chosen::of(&form.fields);
    let (status, error, result) = match decide(&predictor, form).await {
        Ok(result) => (axum::http::StatusCode::OK, None, Some(result)),
        // What the user can mend is said beside the form; the rest has a page of its own.
        Err(problem) if problem.status().is_client_error() => {
            (problem.status(), Some(problem.detail().to_owned()), None)
        }
        Err(problem) => return Err(problem),
    };
    Ok((status, Page(PredictPage { runs: finished(&reports).await?, chosen, error, result })))
}

async fn decide(predictor: &Predictor, form: UploadForm) -> Result<Shown, Problem> {
    let query = PredictionQuery::from_fields(&form.fields)?;
    if form.image.is_empty() {
        return Err(Problem::invalid("Choose an image."));
    }
    let image = upload::data_url(&form.image);
    let prediction = predictor.predict(query.run, form.image, &query.options()).await?;
    Ok(Shown::new(prediction, image))
}

async fn finished(reports: &Reports) -> Result<Vec<RunBrief>, Problem> {
    let query = RunQuery { status: Some(RunStatus::Succeeded), limit: Some(500), ..RunQuery::default() };
    Ok(reports.runs(&query).await?.items)
}

impl Chosen {
    fn of(fields: &[(String, String)]) -> Self {
        let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
        Self {
            run: field("run").and_then(|run| run.parse().ok()),
            rule: field("rule"),
            k: field("k"),
            threshold: field("threshold"),
        }
    }
}

impl Shown {
    fn new(prediction: Prediction, image: Option<String>) -> Self {
        let contributions =
            prediction.fine.iter().flat_map(|label| [Some(label.contribution), label.runner_up_contribution]);
        let longest = contributions.flatten().map(f64::abs).fold(0.0, f64::max);
        Self { prediction, image, longest }
    }

    /// Half the track is the longest bar.
    fn length(&self, contribution: &f64) -> String {
        text::width(contribution.abs(), 2.0 * self.longest)
    }

    /// The labels whose contribution is written out in the sum, largest first; the others are summed up.
    fn addends(&self) -> Vec<&PredictedLabel> {
        let mut labels: Vec<_> = self.prediction.fine.iter().collect();
        labels.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        labels.truncate(5);
        labels
    }

    /// The contribution of all labels that [`Self::addends`] leaves out.
    fn others(&self) -> f64 {
        let shown: f64 = self.addends().iter().map(|label| label.contribution).sum();
        let listed: f64 = self.prediction.fine.iter().map(|label| label.contribution).sum();
        self.prediction.rest_contribution + listed - shown
    }
}
