//! From all images of a split to those that fit, in their order.

use std::{cmp::Ordering, collections::HashSet, ops::RangeInclusive, sync::Arc};

use rayon::prelude::*;

use crate::{
    analysis::Columns,
    domain::{CoarseId, Counts, DecisionRule, FineId, ImageId, Judgements, Outcome},
    error::{Error, Result},
    report::{
        evidence::Evidence,
        sort::{Column, Sort, first_of},
    },
};

/// What an image must be. Conditions hold together; `None` holds for all.
pub(super) struct Filter {
    pub outcome: Option<Outcome>,
    pub correct: Option<bool>,
    pub fine: Option<FineId>,
    pub predicted: Option<FineId>,
    pub missing: Option<FineId>,
    pub extra: Option<FineId>,
    pub coarse: Option<CoarseId>,
    pub predicted_coarse: Option<CoarseId>,
    pub labels: RangeInclusive<usize>,
    pub confidence: Option<(f64, f64)>,
    pub other: Option<Other>,
    pub among: Option<HashSet<ImageId>>,
}

/// Another run, or another rule, to hold against.
pub(super) struct Other {
    pub judgements: Arc<Judgements>,
    pub outcome: Option<Outcome>,
    pub differs: Option<bool>,
}

/// What images are sorted by; equal ones are in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageColumn {
    /// The id in the annotations.
    #[default]
    Image,
    /// The image's loss.
    Loss,
    /// Probability of the true category minus the highest of another one.
    Margin,
    /// Probability of the predicted category.
    Confidence,
}

/// What is selected from, and how.
pub(super) struct Selection {
    pub filter: Filter,
    pub rule: Option<DecisionRule>,
    pub sort: Sort<ImageColumn>,
    pub columns: Arc<Columns>,
    pub judgements: Arc<Judgements>,
    pub evidence: Arc<Evidence>,
}

/// A part of what was selected: rows of the scores.
pub(super) struct Found {
    pub rows: Vec<usize>,
    pub more: bool,
    pub total: u64,
    pub counts: Option<Counts>,
}

/// Where an image stands among those that fit.
pub(super) struct Place {
    pub row: usize,
    pub previous: Option<usize>,
    pub next: Option<usize>,
    /// From 1; `None` for an image that does not fit.
    pub position: Option<u64>,
    pub total: u64,
}

impl Selection {
    /// The first `limit` images after one of them (or from the first).
    pub fn page(&self, after: Option<ImageId>, limit: usize) -> Result<Found> {
        let after = after.map(|image| self.row_of(image)).transpose()?;
        let fitting = self.fitting();
        let outcome = |row: &usize| self.judgements.outcome(*row);
        let counts = self.judgements.outcomes().map(|_| fitting.iter().filter_map(outcome).collect::<Counts>());
        let rows = self.of_outcome(fitting);
        let total = rows.len() as u64;
        let (rows, more) = first_of(rows, after, limit, |a, b| self.order(*a, *b));
        Ok(Found { rows, more, total, counts })
    }

    /// Where one image stands. Its neighbours are those that fit, whether it does itself or not.
    pub fn place(&self, image: ImageId) -> Result<Place> {
        let row = self.row_of(image)?;
        let rows = self.of_outcome(self.fitting());
        let (before, rest): (Vec<usize>, Vec<usize>) = rows.iter().partition(|other| self.order(**other, row).is_lt());
        let order = |a: &usize, b: &usize| self.order(*a, *b);
        Ok(Place {
            row,
            previous: before.iter().copied().max_by(order),
            next: rest.iter().copied().filter(|other| *other != row).min_by(order),
            position: rest.contains(&row).then_some(before.len() as u64 + 1),
            total: rows.len() as u64,
        })
    }

    fn row_of(&self, image: ImageId) -> Result<usize> {
        let images = &self.evidence.truths.images;
        images.iter().position(|other| *other == image).ok_or_else(|| {
            Error::NotFound(format!("there is no image {image} among the run's; take numbers from the listing"))
        })
    }

    /// Rows that fit everything but the outcome.
    fn fitting(&self) -> Vec<usize> {
        (0..self.evidence.truths.images.len()).into_par_iter().filter(|row| self.fits(*row)).collect()
    }

    fn of_outcome(&self, mut rows: Vec<usize>) -> Vec<usize> {
        if let Some(outcome) = self.filter.outcome {
            rows.retain(|row| self.judgements.outcome(*row) == Some(outcome));
        }
        rows
    }

    fn fits(&self, row: usize) -> bool {
        let (filter, truths) = (&self.filter, &self.evidence.truths);
        let labels = &truths.labels[row];
        // The cheap ones first: most images end here.
        filter.correct.is_none_or(|correct| self.judgements.coarse_correct(row) == correct)
            && filter.coarse.is_none_or(|category| truths.coarse[row] == category)
            && filter.predicted_coarse.is_none_or(|category| self.columns.predicted[row] == category)
            && filter.labels.contains(&labels.len())
            && filter.confidence.is_none_or(|(low, high)| {
                let confidence = f64::from(self.columns.confidence[row]);
                low <= confidence && confidence <= high
            })
            && filter.fine.is_none_or(|label| labels.contains(label))
            && filter.other.as_ref().is_none_or(|other| self.fits_beside(other, row))
            && filter.among.as_ref().is_none_or(|among| among.contains(&truths.images[row]))
            && filter.missing.is_none_or(|label| labels.contains(label) && !self.takes(row, label))
            && filter.extra.is_none_or(|label| !labels.contains(label) && self.takes(row, label))
            && filter.predicted.is_none_or(|label| self.takes(row, label))
    }

    fn fits_beside(&self, other: &Other, row: usize) -> bool {
        let theirs = other.judgements.outcome(row);
        other.outcome.is_none_or(|outcome| theirs == Some(outcome))
            && other.differs.is_none_or(|differs| (theirs != self.judgements.outcome(row)) == differs)
    }

    /// Whether the image is said to have a label.
    fn takes(&self, row: usize, label: FineId) -> bool {
        let scores = &self.evidence.scores;
        let decided = scores.fine_row(row).zip(self.rule.as_ref());
        decided.is_some_and(|(logits, rule)| rule.takes(logits, self.evidence.truths.labels[row].len(), label))
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        let by = |values: &[f32]| values[a].total_cmp(&values[b]);
        let ascending = match self.sort.by {
            ImageColumn::Image => a.cmp(&b),
            ImageColumn::Loss => by(&self.columns.loss),
            ImageColumn::Margin => by(&self.columns.margin),
            ImageColumn::Confidence => by(&self.columns.confidence),
        };
        if self.sort.descending { ascending.reverse() } else { ascending }.then(a.cmp(&b))
    }
}

impl Column for ImageColumn {
    const ALL: &'static [Self] = &[Self::Image, Self::Loss, Self::Margin, Self::Confidence];

    fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Loss => "loss",
            Self::Margin => "margin",
            Self::Confidence => "confidence",
        }
    }
}
