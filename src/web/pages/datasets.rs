//! `/datasets`: what there is, and how each came out of its annotations.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::CoarseId,
    report::{DatasetBrief, DatasetReport, FunnelReport, LabelCount, Listing, Reports},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::Path,
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "datasets/list.html")]
pub struct DatasetsPage {
    datasets: Listing<DatasetBrief>,
}

impl DatasetsPage {
    fn drawn(&self) -> bool {
        self.datasets.items.iter().any(|dataset| dataset.drawn)
    }

    fn section(&self) -> &'static str {
        "datasets"
    }
}

#[derive(Template)]
#[template(path = "datasets/show.html")]
pub struct DatasetPage {
    dataset: DatasetReport,
    chart: Chart,
}

pub async fn list(State(reports): State<Reports>) -> Result<Page<DatasetsPage>, Problem> {
    Ok(Page(DatasetsPage { datasets: reports.datasets().await? }))
}

pub async fn show(State(reports): State<Reports>, Path(name): Path<String>) -> Result<Page<DatasetPage>, Problem> {
    let dataset = reports.dataset(&name).await?;
    Ok(Page(DatasetPage { chart: chart::categories(&dataset.categories), dataset }))
}

/// A step of the funnel.
struct Step {
    name: &'static str,
    meaning: &'static str,
    images: u64,
    /// Of its bar: its share of what was read.
    width: String,
    kept: bool,
}

/// A category of the taxonomy with its fine labels.
struct Branch<'a> {
    category: &'a str,
    labels: Vec<&'a str>,
}

impl DatasetPage {
    fn section(&self) -> &'static str {
        "datasets"
    }

    fn funnels(&self) -> [(&'static str, &FunnelReport); 2] {
        [("Train", &self.dataset.train_funnel), ("Test", &self.dataset.test_funnel)]
    }

    fn steps(&self, funnel: &FunnelReport) -> [Step; 5] {
        let FunnelReport { read, unlabelled, public_only, several, kept } = *funnel;
        let step = |name, meaning, images, kept| {
            let width = text::width(images as f64, read as f64);
            Step { name, meaning, images, width, kept }
        };
        [
            step("read", "images in the annotations", read, true),
            step("unlabelled", "dropped: no annotation at all", unlabelled, false),
            step("public labels only", "dropped: only labels that belong to no category", public_only, false),
            step("several categories", "dropped: labels of more than one category", several, false),
            step("kept", "labels of exactly one category", kept, true),
        ]
    }

    /// Labels by category in taxonomy order, public ones last.
    fn labels(&self) -> Vec<&LabelCount> {
        let order = self.dataset.taxonomy.coarse();
        let rank = |label: &LabelCount| {
            let position = |coarse: &String| order.iter().position(|name| name == coarse);
            label.coarse.as_ref().and_then(position).unwrap_or(order.len())
        };
        let mut labels: Vec<_> = self.dataset.labels.iter().collect();
        labels.sort_by_key(|label| rank(label));
        labels
    }

    fn branches(&self) -> Vec<Branch<'_>> {
        let taxonomy = &self.dataset.taxonomy;
        let labels = |parent: Option<CoarseId>| {
            taxonomy.fine().iter().filter(|label| label.parent == parent).map(|label| label.name.as_str()).collect()
        };
        let categories = (0..).zip(taxonomy.coarse());
        let mut branches: Vec<Branch<'_>> =
            categories.map(|(index, category)| Branch { category, labels: labels(Some(CoarseId(index))) }).collect();
        branches.push(Branch { category: "public (no category)", labels: labels(None) });
        branches.retain(|branch| !branch.labels.is_empty());
        branches
    }
}
