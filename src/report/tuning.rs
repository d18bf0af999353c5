//! Thresholds tuned on validation: one for each fine label, and what they gain on test.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Figure, Figures, Reports, evidence::Evidence, labels::BOOTSTRAP_SEED, no_fine_scores, transitions::Paired,
};
use crate::{
    analysis::{MacroF1, affordable_resamples, interval::RESAMPLES, label_counts, tune},
    domain::{DecisionRule, Judgements, Split, Taxonomy, Threshold},
    error::Result,
    store::RunRow,
};

/// One threshold per fine label, tuned for the label's F1 on validation, held against the run's one θ for all labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TuningReport {
    /// The run's θ, which all labels had before.
    pub from: Threshold,
    /// How many validation images the thresholds are tuned on.
    pub validation_images: u64,
    /// How many test images the gain is measured on.
    pub test_images: u64,
    /// On test with the run's θ.
    pub before: Figures,
    /// On test with each label's own threshold.
    pub after: Figures,
    /// On test: after minus before.
    pub differences: Figures,
    /// Macro F1 of fine labels on test.
    pub macro_f1: MacroF1Gain,
    /// The labels, in the taxonomy's order.
    pub labels: Vec<TunedLabel>,
    /// Resamples of the bootstrap of differences.
    pub resamples: usize,
    /// Resamples of the bootstrap of macro F1; 0 where it would take too long.
    pub macro_f1_resamples: usize,
}

/// The mean F1 of the labels that test images have; paired percentile bootstrap.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MacroF1Gain {
    /// With the run's θ.
    pub before: Figure,
    /// With each label's own threshold.
    pub after: Figure,
    /// After minus before.
    pub difference: Figure,
}

/// One fine label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunedLabel {
    /// Its name.
    pub name: String,
    /// The category it belongs to; `None` for a public label.
    pub category: Option<String>,
    /// Its threshold.
    pub threshold: Threshold,
    /// Whether some threshold finds it on validation; if none does, it keeps the run's θ.
    pub found: bool,
    /// Validation images that have it.
    pub validation_support: u64,
    /// F1 on validation with the run's θ.
    pub validation_before: Option<f64>,
    /// F1 on validation with its own threshold.
    pub validation_after: Option<f64>,
    /// Test images that have it.
    pub test_support: u64,
    /// F1 on test with the run's θ.
    pub test_before: Option<f64>,
    /// F1 on test with its own threshold.
    pub test_after: Option<f64>,
}

/// All that the report is made of.
struct Work {
    from: Threshold,
    thresholds: Arc<[Threshold]>,
    taxonomy: Taxonomy,
    validation: Arc<Evidence>,
    test: Arc<Evidence>,
}

impl Reports {
    /// Each fine label's threshold with the highest F1 on validation. They depend on a run's scores alone, and are kept.
    pub(super) async fn tuned(&self, run: &RunRow) -> Result<Arc<[Threshold]>> {
        let key = run.id.to_string();
        if let Some(known) = self.thresholds.get(&key) {
            return Ok(known);
        }
        let (evidence, own) = (self.evidence(run.id, Split::Validation).await?, run.spec.threshold);
        let tuned = super::blocking(move || {
            let fine = evidence.scores.fine.as_ref()?;
            Some(tune(fine, &evidence.truths().collect::<Vec<_>>(), own))
        });
        let tuned = tuned.await?.ok_or_else(|| no_fine_scores(run.id))?;
        self.thresholds.put(key, tuned.clone());
        Ok(tuned)
    }

    /// What tuned thresholds gain. It depends on a run's scores alone, and is kept.
    pub(super) async fn tuning(&self, run: &RunRow) -> Result<Arc<TuningReport>> {
        let key = run.id.to_string();
        if let Some(known) = self.tuning.get(&key) {
            return Ok(known);
        }
        let work = Work {
            from: run.spec.threshold,
            thresholds: self.tuned(run).await?,
            taxonomy: self.store.dataset(&run.dataset).await?.taxonomy,
            validation: self.evidence(run.id, Split::Validation).await?,
            test: self.evidence(run.id, Split::Test).await?,
        };
        let report = Arc::new(super::blocking(move || work.report()).await?);
        self.tuning.put(key, report.clone());
        Ok(report)
    }
}

impl Work {
    fn report(self) -> TuningReport {
        let Self { from, thresholds, taxonomy, validation, test } = self;
        let labels = taxonomy.fine().len();
        let rules =
            [DecisionRule::Threshold { threshold: from }, DecisionRule::PerLabel { thresholds: thresholds.clone() }];
        let decided = |evidence: &Evidence| rules.each_ref().map(|rule| evidence.decide(Some(rule)));
        let on_validation = decided(&validation).map(|decisions| label_counts(&decisions, validation.truths(), labels));
        let decisions = decided(&test);
        let on_test = decisions.each_ref().map(|decisions| label_counts(decisions, test.truths(), labels));
        let [before, after] = decisions.each_ref().map(|decisions| {
            let right = decisions.iter().map(|one| (one.fine_correct.unwrap_or(false), one.coarse_correct));
            Judgements::of(true, right)
        });

        let resamples = affordable_resamples(decisions[0].len(), labels);
        let macro_f1 = MacroF1::of(&decisions[0], &decisions[1], test.truths(), labels, resamples, BOOTSTRAP_SEED);
        let label = |(at, threshold): (usize, &Threshold)| {
            let entry = &taxonomy.fine()[at];
            TunedLabel {
                name: entry.name.clone(),
                category: entry.parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
                threshold: *threshold,
                found: on_validation[1][at].correct > 0,
                validation_support: on_validation[0][at].support,
                validation_before: on_validation[0][at].f1(),
                validation_after: on_validation[1][at].f1(),
                test_support: on_test[0][at].support,
                test_before: on_test[0][at].f1(),
                test_after: on_test[1][at].f1(),
            }
        };
        TuningReport {
            from,
            validation_images: validation.scores.len() as u64,
            test_images: test.scores.len() as u64,
            differences: Paired::of(&before, &after).map(|paired| paired.differences).unwrap_or_default(),
            before: Figures::of_run(before.tally()),
            after: Figures::of_run(after.tally()),
            macro_f1: MacroF1Gain {
                before: macro_f1.before.into(),
                after: macro_f1.after.into(),
                difference: macro_f1.difference.into(),
            },
            labels: thresholds.iter().enumerate().map(label).collect(),
            resamples: RESAMPLES,
            macro_f1_resamples: resamples,
        }
    }
}
