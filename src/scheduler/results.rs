//! From the score files that a worker left to the outcomes that are recorded.

use std::path::{Component, Path};

use crate::{
    analysis::{Truth, judge_all},
    domain::{AttemptId, DecisionRule, RunId, Split},
    error::{Error, Result},
    exchange::Scores,
    store::{NewOutcomes, Store, Truths},
    worker::protocol::{Artifact, ArtifactKind},
};

/// Outcomes of validation and test under the run's own rule. Whatever a worker left wrongly is [`Error::Invalid`].
pub(super) async fn outcomes(
    store: &Store,
    attempt: AttemptId,
    run: RunId,
    artifacts: &[Artifact],
) -> Result<Vec<NewOutcomes>> {
    let row = store.run(run).await?;
    let rule = row.spec.own_rule();
    let directory = store.attempt_directory(attempt).await?;
    for artifact in artifacts {
        let inside = artifact.path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || !directory.join(&artifact.path).is_file() {
            return Err(Error::Invalid(format!("the worker left no file {}", artifact.path.display())));
        }
    }
    let find = |kind: ArtifactKind| artifacts.iter().find(|artifact| artifact.kind == kind);
    if find(ArtifactKind::Weights).is_none() {
        return Err(Error::Invalid("the worker left no weights".into()));
    }
    let mut all = Vec::new();
    for (split, kind) in [(Split::Validation, ArtifactKind::ScoresValidation), (Split::Test, ArtifactKind::ScoresTest)]
    {
        let artifact = find(kind).ok_or_else(|| Error::Invalid(format!("the worker left no {split} scores")))?;
        let truths = store.truths(row.dataset_id, split).await?;
        let path = directory.join(&artifact.path);
        let (sha256, rule) = (artifact.sha256.clone(), rule.clone());
        let outcomes = tokio::task::spawn_blocking(move || of_split(split, rule, &path, &sha256, truths))
            .await
            .map_err(|error| Error::internal("outcomes were not computed", error))??;
        all.push(outcomes);
    }
    Ok(all)
}

fn of_split(
    split: Split,
    rule: Option<DecisionRule>,
    path: &Path,
    sha256: &str,
    truths: Truths,
) -> Result<NewOutcomes> {
    let scores = Scores::read(path, Some(sha256)).map_err(|error| Error::Invalid(error.to_string()))?;
    if split == Split::Test && scores.len() != truths.source_ids.len() {
        return Err(Error::Invalid(format!(
            "the test scores have {} images, the data set has {}",
            scores.len(),
            truths.source_ids.len()
        )));
    }
    if !scores.image_ids.is_sorted_by(|a, b| a < b) {
        return Err(Error::Invalid(format!("the {split} scores are not in the order of the images' ids")));
    }
    if rule.is_some() != scores.fine.is_some() {
        return Err(Error::Invalid(format!(
            "the {split} scores do not fit the objective: fine scores go with a fine objective"
        )));
    }
    let truths = scores
        .image_ids
        .iter()
        .map(|id| {
            let row = truths.source_ids.binary_search(id).map_err(|_| {
                Error::Invalid(format!("the {split} scores name image {id}, which the data set does not have"))
            })?;
            Ok(Truth { fine: &truths.labels[row], coarse: truths.coarse[row] })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(NewOutcomes { split, judgements: judge_all(&scores, truths, rule.as_ref()) })
}
