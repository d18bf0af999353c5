//! What a run decided for each test image.

use serde::{Deserialize, Serialize};

use super::{
    Reports, RunBrief,
    reports::{brief, cursor, limit},
    rule::rule_words,
};
use crate::{
    domain::{Counts, FineId, ImageId, LabelSet, Outcome, RunId, Split, Taxonomy, decision::softmax},
    error::{Error, Result},
    exchange::Scores,
    store::{OutcomeFilter, OutcomeRow},
};

/// Which outcomes of a run, from where on, how many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeQuery {
    /// `FTCT`, `FTCF`, `FFCT` or `FFCF`.
    pub outcome: Option<Outcome>,
    /// Images that truly have this fine label (by name).
    pub fine: Option<String>,
    /// Images of this true coarse category (by name).
    pub coarse: Option<String>,
    /// Images that another run of the same data set gave the outcome `other_outcome`.
    pub other: Option<RunId>,
    /// The outcome under the run `other`.
    pub other_outcome: Option<Outcome>,
    /// `test` (the default) or `validation`.
    pub split: Option<Split>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 by default.
    pub limit: Option<u32>,
}

/// A page of outcomes.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomePage {
    /// The run.
    pub run: RunBrief,
    /// The decision rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// Outcomes of the whole split, whatever the filter; `None` for a coarse-only run.
    pub counts: Option<Counts>,
    /// How many images match the filter.
    pub total: u64,
    /// Names of the fine labels, for the filter.
    #[serde(skip)]
    pub fine_names: Vec<String>,
    /// Names of the coarse categories, for the filter.
    #[serde(skip)]
    pub coarse_names: Vec<String>,
    /// The images.
    pub items: Vec<OutcomeItem>,
    /// To be passed as `cursor` for what follows.
    pub next_cursor: Option<String>,
}

/// One image and what was decided.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeItem {
    /// The image: `/images/{id}` is the file, `/images/{id}/thumbnail` a small one.
    pub image: ImageId,
    /// Its id in the source (COCO's).
    pub source_id: i64,
    /// Its file name.
    pub file_name: String,
    /// The outcome; `None` for a coarse-only run.
    pub outcome: Option<Outcome>,
    /// Whether the category is right.
    pub coarse_correct: bool,
    /// True fine labels.
    pub true_fine: Vec<String>,
    /// Predicted fine labels, most probable first; `None` for a coarse-only run.
    pub predicted_fine: Option<Vec<ScoredLabel>>,
    /// True labels that were not predicted; `None` for a coarse-only run.
    pub missing_fine: Option<Vec<String>>,
    /// True category.
    pub true_coarse: String,
    /// Predicted category.
    pub predicted_coarse: String,
    /// Softmax probability of the predicted category.
    pub coarse_probability: f64,
}

/// A predicted fine label.
#[derive(Clone, Debug, Serialize)]
pub struct ScoredLabel {
    /// Its name.
    pub name: String,
    /// Its probability under the run's activation.
    pub probability: f64,
    /// Whether it is truly there.
    pub correct: bool,
}

pub(super) async fn page(reports: &Reports, id: RunId, query: &OutcomeQuery) -> Result<OutcomePage> {
    let run = reports.succeeded(id).await?;
    let taxonomy = reports.store.dataset(&run.dataset).await?.taxonomy;
    let split = query.split.unwrap_or(Split::Test);
    let limit = limit(query.limit)?;
    let rule = run.spec.own_rule();
    if query.outcome.is_some() && rule.is_none() {
        return Err(Error::Invalid(
            "outcome: a coarse-only run has no outcomes, only right and wrong categories".into(),
        ));
    }
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let fine = given(&query.fine)
        .map(|name| {
            taxonomy.find_fine(&name).ok_or_else(|| Error::Invalid(format!("fine: “{name}” is not a fine label")))
        })
        .transpose()?;
    let coarse = given(&query.coarse)
        .map(|name| {
            taxonomy.find_coarse(&name).ok_or_else(|| Error::Invalid(format!("coarse: “{name}” is not a category")))
        })
        .transpose()?;
    let after = cursor(query.cursor.as_deref())?;
    let other = other(reports, query, &run.dataset).await?;
    let filter = OutcomeFilter { split, outcome: query.outcome, fine, coarse, other, after, limit: limit + 1 };
    let scores = reports.scores(id, split).await?;
    let (total, mut rows) = reports.store.outcomes(id, &filter).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.image.to_string());
    let items = rows
        .into_iter()
        .map(|row| {
            let index = row_of(&scores, row.source_id)?;
            let predicted =
                scores.fine_row(index).zip(rule.as_ref()).map(|(logits, rule)| rule.decide(logits, row.labels.len()));
            Ok(item(row, &taxonomy, &scores, index, predicted))
        })
        .collect::<Result<_>>()?;
    Ok(OutcomePage {
        rule: rule.as_ref().map(rule_words),
        counts: reports.store.tally(id, split).await?.and_then(|tally| tally.counts),
        total,
        fine_names: taxonomy.fine().iter().map(|label| label.name.clone()).collect(),
        coarse_names: taxonomy.coarse().to_vec(),
        items,
        next_cursor,
        run: brief(run),
    })
}

/// The other run and what it is to have decided, if the query names both.
async fn other(reports: &Reports, query: &OutcomeQuery, dataset: &str) -> Result<Option<(RunId, Outcome)>> {
    let (id, outcome) = match (query.other, query.other_outcome) {
        (Some(id), Some(outcome)) => (id, outcome),
        (None, None) => return Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            return Err(Error::Invalid("other and other_outcome go together: give both or none".into()));
        }
    };
    let run = reports.succeeded(id).await?;
    if run.dataset != dataset {
        return Err(Error::Invalid(format!(
            "other: run {id} is of the data set “{}”, not of “{dataset}”",
            run.dataset
        )));
    }
    Ok(Some((id, outcome)))
}

fn item(
    row: OutcomeRow,
    taxonomy: &Taxonomy,
    scores: &Scores,
    index: usize,
    predicted: Option<LabelSet>,
) -> OutcomeItem {
    let name = |fine: FineId| taxonomy.fine_name(fine).to_owned();
    let probabilities = softmax(scores.coarse_row(index));
    let activation = scores.fine.as_ref().map(|fine| fine.activation);
    let predicted_fine =
        predicted.as_ref().zip(scores.fine_row(index)).zip(activation).map(|((predicted, logits), activation)| {
            let probabilities = activation.probabilities(logits);
            let mut labels: Vec<ScoredLabel> = predicted
                .iter()
                .map(|fine| ScoredLabel {
                    name: name(fine),
                    probability: probabilities[fine.index()],
                    correct: row.labels.contains(fine),
                })
                .collect();
            labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            labels
        });
    let missing =
        |predicted: &LabelSet| row.labels.iter().filter(|fine| !predicted.contains(*fine)).map(name).collect();
    OutcomeItem {
        image: row.image,
        source_id: row.source_id,
        outcome: row.fine_correct.map(|fine| Outcome::of(fine, row.coarse_correct)),
        coarse_correct: row.coarse_correct,
        true_fine: row.labels.iter().map(name).collect(),
        missing_fine: predicted.as_ref().map(missing),
        predicted_fine,
        true_coarse: taxonomy.coarse_name(row.coarse).to_owned(),
        predicted_coarse: taxonomy.coarse_name(row.predicted_coarse).to_owned(),
        coarse_probability: probabilities[row.predicted_coarse.index()],
        file_name: row.file_name,
    }
}

/// The row of an image in a score file, whose ids are ascending.
fn row_of(scores: &Scores, source_id: i64) -> Result<usize> {
    scores
        .image_ids
        .binary_search(&source_id)
        .map_err(|_| Error::internal("a recorded image has no scores", format!("image {source_id}")))
}
