//! What a run decided for each image: filtered, sorted, page by page, and one image in full.

mod item;
mod select;

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;

pub use item::{ImageReport, MissedLabel, OutcomeItem, OutcomeUnder, ScoredLabel};
pub use select::ImageColumn;

use self::select::{Filter, Other, Selection};
use super::{
    Reports, RuleQuery, RunBrief, Sort,
    evidence::Evidence,
    reports::{brief, cursor, limit},
    rule::{rule_query, rule_words},
};
use crate::{
    domain::{CoarseId, Counts, DatasetId, DecisionRule, FineId, ImageId, Outcome, RunId, Split, Taxonomy},
    error::{Error, Result},
    store::RunRow,
};

rule_query! {
    /// Which images of a run, in which order, from where on, how many. Conditions hold together.
    #[derive(Default, PartialEq, Serialize)]
    pub struct OutcomeQuery {
        /// `FTCT`, `FTCF`, `FFCT` or `FFCF`.
        pub outcome: Option<Outcome>,
        /// Whether the category is right.
        pub correct: Option<bool>,
        /// Images that truly have this fine label (by name).
        pub fine: Option<String>,
        /// Images that are said to have this fine label.
        pub predicted: Option<String>,
        /// Images that truly have this fine label and are not said to.
        pub missing: Option<String>,
        /// Images that are said to have this fine label and do not.
        pub extra: Option<String>,
        /// Images of this true coarse category (by name).
        pub coarse: Option<String>,
        /// Images that are said to be of this category.
        pub predicted_coarse: Option<String>,
        /// Images with at least so many true fine labels.
        pub min_labels: Option<usize>,
        /// Images with at most so many true fine labels.
        pub max_labels: Option<usize>,
        /// Images whose predicted category has at least this probability.
        pub min_confidence: Option<f64>,
        /// Images whose predicted category has at most this probability.
        pub max_confidence: Option<f64>,
        /// A run on the same test images, or this run under another rule, to hold against; see `other_outcome`, `differs`.
        pub other: Option<RunId>,
        /// Images that have this outcome under `other`.
        pub other_outcome: Option<Outcome>,
        /// Images whose outcome under `other` is another one (or, with `false`, the same).
        pub differs: Option<bool>,
        /// `rule=` of the other run.
        pub other_rule: Option<String>,
        /// `k=` of the other run.
        pub other_k: Option<u16>,
        /// `threshold=` of the other run.
        pub other_threshold: Option<f64>,
        /// Images with this tag.
        pub tag: Option<String>,
        /// Images with a note.
        pub noted: Option<bool>,
        /// `test` (the default) or `validation`.
        pub split: Option<Split>,
        /// `image` (the default), `loss`, `margin` or `confidence`, with `-` in front for the largest first.
        pub sort: Option<Sort<ImageColumn>>,
        /// Where to go on.
        pub cursor: Option<String>,
        /// At most this many, 1 to 500; 50 by default.
        pub limit: Option<u32>,
    }
}

/// A page of outcomes.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomePage {
    /// The run.
    pub run: RunBrief,
    /// The decision rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// Outcomes of the images that fit the filter, whatever is asked for by `outcome`; `None` for a coarse-only run.
    pub counts: Option<Counts>,
    /// How many images fit the filter.
    pub total: u64,
    /// Names of the fine labels, for the filter.
    #[serde(skip)]
    pub fine_names: Vec<String>,
    /// Names of the coarse categories, for the filter.
    #[serde(skip)]
    pub coarse_names: Vec<String>,
    /// Tags in use, for the filter.
    #[serde(skip)]
    pub tags: Vec<String>,
    /// The images.
    pub items: Vec<OutcomeItem>,
    /// To be passed as `cursor` for what follows.
    pub next_cursor: Option<String>,
}

/// What a query asks for, with everything that answers it.
pub(super) struct Asked {
    run: RunRow,
    split: Split,
    rule: Option<DecisionRule>,
    taxonomy: Arc<Taxonomy>,
    evidence: Arc<Evidence>,
    selection: Selection,
}

impl Asked {
    /// How many fine labels there are.
    pub(super) fn fine_labels_known(&self) -> usize {
        self.taxonomy.fine().len()
    }
}

impl Reports {
    /// What a run decided, image by image.
    pub async fn outcomes(&self, id: RunId, query: &OutcomeQuery) -> Result<OutcomePage> {
        let limit = limit(query.limit)? as usize;
        let after: Option<ImageId> = cursor(query.cursor.as_deref())?;
        let asked = self.asked(id, query).await?;
        let (asked, found) = super::blocking(move || {
            let found = asked.selection.page(after, limit);
            (asked, found)
        })
        .await?;
        let found = found?;
        let asked = Arc::new(asked);
        let items = self.items(&asked, found.rows).await?;
        Ok(OutcomePage {
            rule: asked.rule.as_ref().map(rule_words),
            counts: found.counts,
            total: found.total,
            fine_names: asked.taxonomy.fine().iter().map(|label| label.name.clone()).collect(),
            coarse_names: asked.taxonomy.coarse().to_vec(),
            tags: self.store.tags(asked.run.dataset_id).await?,
            next_cursor: items.last().filter(|_| found.more).map(|item| item.image.to_string()),
            items,
            run: brief(asked.run.clone()),
        })
    }

    /// All images that fit, as rows in their order.
    pub(super) async fn fitting(&self, id: RunId, query: &OutcomeQuery) -> Result<(Arc<Asked>, Vec<usize>)> {
        let asked = Arc::new(self.asked(id, query).await?);
        let selected = asked.clone();
        let found = super::blocking(move || selected.selection.page(None, usize::MAX)).await??;
        Ok((asked, found.rows))
    }

    /// Some test images of a run, by their rows in the scores, decided under a rule.
    pub(super) async fn outcomes_of(&self, id: RunId, rule: &RuleQuery, rows: &[usize]) -> Result<Vec<OutcomeItem>> {
        let RuleQuery { rule, k, threshold } = rule.clone();
        let asked = self.asked(id, &OutcomeQuery { rule, k, threshold, ..OutcomeQuery::default() }).await?;
        self.items(&Arc::new(asked), rows.to_vec()).await
    }

    /// Everything that a query needs.
    async fn asked(&self, id: RunId, query: &OutcomeQuery) -> Result<Asked> {
        let run = self.succeeded(id).await?;
        let dataset = self.store.dataset(&run.dataset).await?;
        let split = query.split.unwrap_or(Split::Test);
        let rule = self.rule(&run, query).await?;
        let needs_labels = [&query.predicted, &query.missing, &query.extra].into_iter().any(Option::is_some);
        if rule.is_none() && (query.outcome.is_some() || query.differs.is_some() || needs_labels) {
            return Err(Error::Invalid(
                "outcome, differs, predicted, missing and extra: a coarse-only run decides no fine labels; it has only right \
                 and wrong categories (correct=true, correct=false)"
                    .into(),
            ));
        }
        let other = self.other(&run, split, query).await?;
        let filter = Filter {
            outcome: query.outcome,
            correct: query.correct,
            fine: self::fine(&dataset.taxonomy, "fine", &query.fine)?,
            predicted: self::fine(&dataset.taxonomy, "predicted", &query.predicted)?,
            missing: self::fine(&dataset.taxonomy, "missing", &query.missing)?,
            extra: self::fine(&dataset.taxonomy, "extra", &query.extra)?,
            coarse: self::coarse(&dataset.taxonomy, "coarse", &query.coarse)?,
            predicted_coarse: self::coarse(&dataset.taxonomy, "predicted_coarse", &query.predicted_coarse)?,
            labels: query.min_labels.unwrap_or(0)..=query.max_labels.unwrap_or(usize::MAX),
            confidence: confidence(query)?,
            other,
            among: self.annotated(run.dataset_id, query.tag.as_deref(), query.noted).await?,
        };
        let evidence = self.evidence(id, split).await?;
        let selection = Selection {
            filter,
            rule: rule.clone(),
            sort: query.sort.unwrap_or_default(),
            columns: self.columns(&run, split).await?,
            judgements: self.judgements(&run, split, rule.as_ref()).await?,
            evidence: evidence.clone(),
        };
        Ok(Asked { split, rule, taxonomy: Arc::new(dataset.taxonomy), evidence, selection, run })
    }

    /// What the other run decided, if there is one.
    async fn other(&self, run: &RunRow, split: Split, query: &OutcomeQuery) -> Result<Option<Other>> {
        let Some(id) = query.other else {
            return match (query.other_outcome, query.differs) {
                (None, None) => Ok(None),
                _ => Err(Error::Invalid("other_outcome and differs hold against another run: name it as other".into())),
            };
        };
        let other = self.succeeded(id).await?;
        let fingerprints = [&run.dataset, &other.dataset].map(|name| self.store.dataset(name));
        let [ours, theirs] = fingerprints;
        if other.dataset != run.dataset
            && (split != Split::Test || ours.await?.fingerprint != theirs.await?.fingerprint)
        {
            return Err(Error::Invalid(format!(
                "other: run {id} is of the data set “{}”, not of “{}”",
                other.dataset, run.dataset
            )));
        }
        if !split.is_test() && other.spec.seed != run.spec.seed {
            return Err(Error::Invalid(format!(
                "other: run {id} has another seed and so other validation images; compare the two on test"
            )));
        }
        let rule = RuleQuery { rule: query.other_rule.clone(), k: query.other_k, threshold: query.other_threshold };
        let rule = self.rule(&other, &rule).await?;
        if rule.is_none() {
            return Err(Error::Invalid(format!("other: run {id} is coarse-only and has no outcomes to hold against")));
        }
        let judgements = self.judgements(&other, split, rule.as_ref()).await?;
        Ok(Some(Other { judgements, outcome: query.other_outcome, differs: query.differs }))
    }

    /// The images that tag and note leave; `None` for all.
    pub(super) async fn annotated(
        &self,
        dataset: DatasetId,
        tag: Option<&str>,
        noted: Option<bool>,
    ) -> Result<Option<HashSet<ImageId>>> {
        let tagged = match tag {
            Some(tag) => {
                let tag = tag.parse().map_err(Error::Invalid)?;
                Some(HashSet::from_iter(self.store.tagged(dataset, &tag).await?))
            }
            None => None,
        };
        match noted {
            Some(true) => {}
            Some(false) => {
                return Err(Error::Invalid(
                    "noted: noted=true is the one condition; leave it out for all images".into(),
                ));
            }
            None => return Ok(tagged),
        }
        let noted = self.store.noted(dataset).await?;
        Ok(Some(match tagged {
            Some(tagged) => noted.into_iter().filter(|image| tagged.contains(image)).collect(),
            None => noted.into_iter().collect(),
        }))
    }
}

pub(super) fn fine(taxonomy: &Taxonomy, field: &str, name: &Option<String>) -> Result<Option<FineId>> {
    let find = |name: &String| {
        taxonomy.find_fine(name).ok_or_else(|| Error::Invalid(format!("{field}: “{name}” is not a fine label")))
    };
    name.as_ref().map(find).transpose()
}

pub(super) fn coarse(taxonomy: &Taxonomy, field: &str, name: &Option<String>) -> Result<Option<CoarseId>> {
    let find = |name: &String| {
        taxonomy.find_coarse(name).ok_or_else(|| Error::Invalid(format!("{field}: “{name}” is not a category")))
    };
    name.as_ref().map(find).transpose()
}

/// The probabilities between which the confidence lies.
fn confidence(query: &OutcomeQuery) -> Result<Option<(f64, f64)>> {
    let (low, high) = (query.min_confidence, query.max_confidence);
    for value in low.into_iter().chain(high) {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::Invalid(format!("min_confidence, max_confidence: {value} is outside 0 to 1")));
        }
    }
    Ok((low.is_some() || high.is_some()).then(|| (low.unwrap_or(0.0), high.unwrap_or(1.0))))
}
