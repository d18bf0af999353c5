//! The images of a data set, and what its runs made of each.

use std::{cmp::Ordering, collections::HashSet, ops::RangeInclusive, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Reports,
    outcomes::{OutcomeUnder, coarse, fine},
    reports::{cursor, limit},
    sort::{Column, Sort, first_of},
};
use crate::{
    domain::{CoarseId, FineId, ImageId, Judgements, Outcome, RunId, RunStatus, Split},
    error::{Error, Result},
    store::{DatasetRow, RunRow, Truths},
};

/// Runs that are shown beside each image unless others are named.
const RUNS: usize = 6;
/// Runs that can be named.
const MAX_RUNS: usize = 24;

/// Which images of a data set, in which order, from where on, how many. Conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetImagesQuery {
    /// `test` (the default) or `train`.
    pub split: Option<Split>,
    /// Images that have this fine label (by name).
    pub fine: Option<String>,
    /// Images of this coarse category (by name).
    pub coarse: Option<String>,
    /// Images with at least so many fine labels.
    pub min_labels: Option<usize>,
    /// Images with at most so many fine labels.
    pub max_labels: Option<usize>,
    /// Images with this tag.
    pub tag: Option<String>,
    /// Images with a note.
    pub noted: Option<bool>,
    /// Numbers of the runs to show, comma separated; by default the newest six of this test set.
    pub runs: Option<String>,
    /// `same` or `differ`: whether the shown runs have one outcome for the image.
    pub outcomes: Option<Agreement>,
    /// Images for which at least so many of the shown runs are right for the right reasons (coarse-only: right).
    pub min_right: Option<usize>,
    /// Images for which at most so many are.
    pub max_right: Option<usize>,
    /// `image` (the default) or `right`, with `-` in front for the largest first.
    pub sort: Option<Sort<DatasetColumn>>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 by default.
    pub limit: Option<u32>,
}

/// Whether runs agree on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// All have the same outcome for it.
    Same,
    /// At least two have different ones.
    Differ,
}

/// What images of a data set are sorted by; equal ones are in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatasetColumn {
    /// The id in the annotations.
    #[default]
    Image,
    /// The number of shown runs that are right for the right reasons.
    Right,
}

/// `GET /api/v1/datasets/{name}/images`: a page of a data set's images.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetImages {
    /// The data set's name.
    pub dataset: String,
    /// Drawn, not photographed.
    pub drawn: bool,
    /// Which images.
    pub split: Split,
    /// The runs that are shown.
    pub runs: Vec<ShownRun>,
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
    pub items: Vec<DatasetImage>,
    /// To be passed as `cursor` for what follows.
    pub next_cursor: Option<String>,
}

/// A run that is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ShownRun {
    /// Its number.
    pub id: RunId,
    /// Its name.
    pub name: String,
}

/// One image of a data set.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetImage {
    /// The image: `/images/{id}` is the file, `/images/{id}/thumbnail` a small one.
    pub image: ImageId,
    /// Its id in the source (COCO's).
    pub source_id: i64,
    /// Its file name.
    pub file_name: String,
    /// Its fine labels.
    pub fine: Vec<String>,
    /// Its category.
    pub coarse: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What somebody wrote about it.
    pub note: Option<String>,
    /// What the shown runs decided, in their order; none for images of train.
    pub outcomes: Vec<OutcomeUnder>,
}

struct Selection {
    truths: Arc<Truths>,
    judged: Vec<(ShownRun, Arc<Judgements>)>,
    fine: Option<FineId>,
    coarse: Option<CoarseId>,
    labels: RangeInclusive<usize>,
    right: RangeInclusive<usize>,
    agreement: Option<Agreement>,
    among: Option<HashSet<ImageId>>,
    sort: Sort<DatasetColumn>,
}

impl Reports {
    /// The images of a data set that fit, page by page.
    pub async fn dataset_images(&self, name: &str, query: &DatasetImagesQuery) -> Result<DatasetImages> {
        let limit = limit(query.limit)? as usize;
        let after: Option<ImageId> = cursor(query.cursor.as_deref())?;
        let dataset = self.store.dataset(name).await?;
        let split = query.split.unwrap_or(Split::Test);
        if split == Split::Validation {
            return Err(Error::Invalid(
                "split: each run draws its own validation images from train; choose train or test".into(),
            ));
        }
        let selection = self.selection(&dataset, split, query).await?;
        let (selection, page) = super::blocking(move || {
            let page = selection.page(after, limit);
            (selection, page)
        })
        .await?;
        let (rows, more, total) = page?;
        let images: Vec<ImageId> = rows.iter().map(|row| selection.truths.images[*row]).collect();
        let listed = self.store.listed(&images).await?;
        let items: Vec<DatasetImage> = rows
            .iter()
            .zip(listed)
            .map(|(row, listed)| DatasetImage {
                image: selection.truths.images[*row],
                source_id: selection.truths.source_ids[*row],
                fine: selection.truths.labels[*row]
                    .iter()
                    .map(|it| dataset.taxonomy.fine_name(it).to_owned())
                    .collect(),
                coarse: dataset.taxonomy.coarse_name(selection.truths.coarse[*row]).to_owned(),
                outcomes: selection.judged.iter().map(|(run, judged)| OutcomeUnder::of(run, judged, *row)).collect(),
                file_name: listed.file_name,
                tags: listed.tags,
                note: listed.note,
            })
            .collect();
        Ok(DatasetImages {
            split,
            runs: selection.judged.iter().map(|(run, _)| run.clone()).collect(),
            total,
            fine_names: dataset.taxonomy.fine().iter().map(|label| label.name.clone()).collect(),
            coarse_names: dataset.taxonomy.coarse().to_vec(),
            tags: self.store.tags(dataset.id).await?,
            next_cursor: items.last().filter(|_| more).map(|item| item.image.to_string()),
            items,
            drawn: dataset.drawn,
            dataset: dataset.name,
        })
    }

    async fn selection(&self, dataset: &DatasetRow, split: Split, query: &DatasetImagesQuery) -> Result<Selection> {
        let runs = if split.is_test() { self.shown(dataset, query.runs.as_deref()).await? } else { Vec::new() };
        let needs_runs = query.outcomes.is_some() || query.min_right.is_some() || query.max_right.is_some();
        if runs.is_empty() && (needs_runs || query.runs.is_some()) {
            return Err(Error::Invalid(
                "runs, outcomes, min_right and max_right: no run has decided on these images".into(),
            ));
        }
        let mut judged = Vec::new();
        for run in runs {
            let own = run.spec.own_rule();
            let judgements = self.judgements(&run, Split::Test, own.as_ref()).await?;
            judged.push((ShownRun { id: run.id, name: run.name }, judgements));
        }
        Ok(Selection {
            truths: self.truths(dataset, split).await?,
            judged,
            fine: fine(&dataset.taxonomy, "fine", &query.fine)?,
            coarse: coarse(&dataset.taxonomy, "coarse", &query.coarse)?,
            labels: query.min_labels.unwrap_or(0)..=query.max_labels.unwrap_or(usize::MAX),
            right: query.min_right.unwrap_or(0)..=query.max_right.unwrap_or(usize::MAX),
            agreement: query.outcomes,
            among: self.annotated(dataset.id, query.tag.as_deref(), query.noted).await?,
            sort: query.sort.unwrap_or_default(),
        })
    }

    /// The runs to show: those named, else the newest.
    async fn shown(&self, dataset: &DatasetRow, named: Option<&str>) -> Result<Vec<RunRow>> {
        let Some(named) = named else {
            let fits = |run: &RunRow| run.status == RunStatus::Succeeded && run.dataset_id == dataset.id;
            let newest = self.runs_that(fits).await?.into_iter().take(RUNS);
            return Ok(newest.map(Arc::unwrap_or_clone).collect());
        };
        let mut ids: Vec<RunId> = Vec::new();
        for word in named.split(',') {
            let id =
                word.trim().parse().map_err(|_| Error::Invalid(format!("runs: “{word}” is not a run's number")))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.len() > MAX_RUNS {
            return Err(Error::Invalid(format!("runs: {} are named, and {MAX_RUNS} can be shown", ids.len())));
        }
        let mut runs = Vec::new();
        for id in ids {
            let run = self.succeeded(id).await?;
            if run.dataset != dataset.name {
                return Err(Error::Invalid(format!(
                    "runs: run {id} is of “{}”, not of “{}”",
                    run.dataset, dataset.name
                )));
            }
            runs.push(run);
        }
        Ok(runs)
    }
}

impl Selection {
    fn page(&self, after: Option<ImageId>, limit: usize) -> Result<(Vec<usize>, bool, u64)> {
        let position = |image| self.truths.images.iter().position(|other| *other == image);
        let after = match after {
            Some(image) => Some(position(image).ok_or_else(|| {
                Error::NotFound(format!("there is no image {image} here; take the cursor from next_cursor"))
            })?),
            None => None,
        };
        let all = 0..self.truths.images.len();
        let rows: Vec<usize> = all.into_par_iter().filter(|row| self.fits(*row)).collect();
        let total = rows.len() as u64;
        let (rows, more) = first_of(rows, after, limit, |a, b| self.order(*a, *b));
        Ok((rows, more, total))
    }

    fn fits(&self, row: usize) -> bool {
        let labels = &self.truths.labels[row];
        self.coarse.is_none_or(|category| self.truths.coarse[row] == category)
            && self.labels.contains(&labels.len())
            && self.fine.is_none_or(|label| labels.contains(label))
            && self.among.as_ref().is_none_or(|among| among.contains(&self.truths.images[row]))
            && self.right.contains(&self.right(row))
            && self.agreement.is_none_or(|agreement| {
                // A coarse-only run has no outcome to agree with.
                let mut outcomes = self.judged.iter().filter_map(|(_, judged)| judged.outcome(row));
                let first = outcomes.next();
                outcomes.all(|other| Some(other) == first) == (agreement == Agreement::Same)
            })
    }

    /// How many of the runs are right for the right reasons.
    fn right(&self, row: usize) -> usize {
        let right = |judged: &Judgements| {
            judged.outcome(row).map_or(judged.coarse_correct(row), |outcome| outcome == Outcome::Ftct)
        };
        self.judged.iter().filter(|(_, judged)| right(judged)).count()
    }

    fn order(&self, a: usize, b: usize) -> Ordering {
        let ascending = match self.sort.by {
            DatasetColumn::Image => a.cmp(&b),
            DatasetColumn::Right => self.right(a).cmp(&self.right(b)),
        };
        if self.sort.descending { ascending.reverse() } else { ascending }.then(a.cmp(&b))
    }
}

impl Column for DatasetColumn {
    const ALL: &'static [Self] = &[Self::Image, Self::Right];

    fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Right => "right",
        }
    }
}
