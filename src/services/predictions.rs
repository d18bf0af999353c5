//! How the models of finished runs decide for photographs.

use super::Images;
use crate::{
    domain::{DecisionRule, ImageId, RunId, Taxonomy, TopK},
    error::{Error, Result},
    explanation::{Head, coarse_only_path, decision_path},
    inference::{Classified, Classifiers, InferenceError, ModelFile},
    model::ModelSpec,
    report::{Prediction, PredictionQuery, Reports, RuleQuery, RunDecision},
    store::{RunRow, Store},
    worker::protocol::ArtifactKind,
};

/// Fine labels that a prediction shows unless told otherwise.
const TOP: usize = 10;

/// Classifies photographs with the models of succeeded runs. Nothing of an upload is stored.
#[derive(Clone, Debug)]
pub struct Predictor {
    store: Store,
    reports: Reports,
    classifiers: Classifiers,
}

/// What is to be classified.
#[derive(Clone, Debug)]
pub enum Photograph {
    /// A file that somebody sent.
    Upload {
        /// What the sender calls it.
        name: Option<String>,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// An image of a data set.
    Image(ImageId),
}

/// A run that decides, with all that is read for it once.
struct Decider {
    row: RunRow,
    taxonomy: Taxonomy,
    rule: Option<DecisionRule>,
    model: ModelFile,
}

impl Predictor {
    /// Over the runs in `store`, of which `reports` knows the decision rules.
    pub fn new(store: Store, reports: Reports) -> Self {
        Self { store, reports, classifiers: Classifiers::default() }
    }

    /// How some runs decide for each of some photographs.
    pub async fn predict(&self, photographs: Vec<Photograph>, query: &PredictionQuery) -> Result<Vec<Prediction>> {
        let deciders = self.deciders(query).await?;
        let mut predictions = Vec::with_capacity(photographs.len());
        for photograph in photographs {
            predictions.push(self.decide(photograph, &deciders, query).await?);
        }
        Ok(predictions)
    }

    /// How they decide for one.
    pub async fn predict_one(&self, photograph: Photograph, query: &PredictionQuery) -> Result<Prediction> {
        self.decide(photograph, &self.deciders(query).await?, query).await
    }

    async fn decide(
        &self,
        photograph: Photograph,
        deciders: &[Decider],
        query: &PredictionQuery,
    ) -> Result<Prediction> {
        let (name, image, bytes) = match photograph {
            Photograph::Upload { name, bytes } => (name, None, bytes),
            Photograph::Image(image) => {
                let images = Images::new(self.store.clone());
                (Some(images.name(image).await?), Some(image), images.read(image).await?)
            }
        };
        let (mut size, mut decisions) = ((0, 0), Vec::with_capacity(deciders.len()));
        for decider in deciders {
            let classified = self.classifiers.classify(decider.model.clone(), bytes.clone()).await;
            let classified = classified.map_err(|error| refused(decider.row.id, error))?;
            size = classified.size;
            decisions.push(decider.decide(&classified, query.top.unwrap_or(TOP)));
        }
        Ok(Prediction { name, image, width: size.0, height: size.1, decisions })
    }

    async fn deciders(&self, query: &PredictionQuery) -> Result<Vec<Decider>> {
        let mut deciders = Vec::with_capacity(query.runs.len());
        for run in &query.runs {
            deciders.push(self.decider(*run, query).await?);
        }
        Ok(deciders)
    }

    async fn decider(&self, run: RunId, query: &PredictionQuery) -> Result<Decider> {
        let row = self.store.run(run).await?;
        let weights = self.store.artifact(run, ArtifactKind::Weights).await?;
        let taxonomy = self.store.dataset(&row.dataset).await?.taxonomy;
        let aside = row.spec.own_rule().is_none() && query.runs.len() > 1;
        let rule = if aside { RuleQuery::default() } else { query.rule.clone() };
        let rule = self.reports.rule(&row, rule).await?.map(|rule| match rule {
            DecisionRule::TopK { k: TopK::Oracle } => DecisionRule::TopK { k: TopK::Fixed(std::num::NonZeroU16::MIN) },
            rule @ (DecisionRule::TopK { k: TopK::Fixed(_) }
            | DecisionRule::Threshold { .. }
            | DecisionRule::PerLabel { .. }) => rule,
        });
        let spec = ModelSpec::of(&row.spec, &taxonomy);
        let model = ModelFile { path: weights.path, sha256: weights.sha256, spec, input_size: row.spec.input_size };
        Ok(Decider { row, taxonomy, rule, model })
    }
}

impl Decider {
    fn decide(&self, classified: &Classified, top: usize) -> RunDecision {
        let spec = &self.model.spec;
        let path = match (&classified.logits.fine, &classified.coarse_layer, spec.activation, &self.rule) {
            (Some(fine), Some((weight, bias)), Some(activation), Some(rule)) => {
                let head = Head { activation, coarse_input: spec.coarse_input, weight, bias };
                decision_path(fine, &head, rule, 0)
            }
            _ => coarse_only_path(&classified.logits.coarse),
        };
        RunDecision::of(self.row.clone(), &self.taxonomy, &path, top)
    }
}

fn refused(run: RunId, error: InferenceError) -> Error {
    match error {
        InferenceError::Image(error) => Error::Invalid(error.to_string()),
        InferenceError::Busy => Error::Busy(error.to_string()),
        InferenceError::Weights(_) | InferenceError::Compute(_) | InferenceError::Cut(_) => {
            Error::internal(format!("run {run} did not classify a photograph"), error)
        }
    }
}
