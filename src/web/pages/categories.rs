//! `/runs/{id}/categories` and `/runs/{id}/categories/{coarse}`: a run's categories, all together and one by one.

use askama::Template;
use axum::extract::State;

use super::{
    Page,
    classes::{ImageList, Links},
};
use crate::{
    domain::{Outcome, RunId},
    report::{CategoriesReport, CategoryReport, ConfusedCategory, Reports, RuleQuery},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/categories.html")]
pub struct CategoriesPage {
    links: Links,
    report: CategoriesReport,
    reliability_chart: Chart,
}

#[derive(Template)]
#[template(path = "runs/category.html")]
pub struct CategoryPage {
    links: Links,
    report: CategoryReport,
    curve_chart: Chart,
    reliability_chart: Chart,
    /// The longest bar of a contribution.
    longest: f64,
}

/// A cell of the confusion matrix.
struct Cell<'a> {
    predicted: &'a str,
    images: u64,
    /// Of the row's images.
    share: f64,
    right: bool,
}

/// A table of categories that a category is confused with.
struct ConfusionTable<'a> {
    title: &'static str,
    meaning: &'static str,
    of: u64,
    others: &'a [ConfusedCategory],
    /// Whether the others are what was predicted, or what is true.
    predicted: bool,
}

pub async fn list(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<RuleQuery>,
) -> Result<Page<CategoriesPage>, Problem> {
    let report = reports.categories(run, &query).await?;
    let reliability_chart = chart::reliability(&report.calibration);
    Ok(Page(CategoriesPage { links: Links { run, query }, report, reliability_chart }))
}

pub async fn show(
    State(reports): State<Reports>,
    Path((run, name)): Path<(RunId, String)>,
    Query(query): Query<RuleQuery>,
) -> Result<Page<CategoryPage>, Problem> {
    let report = reports.category(run, &name, &query).await?;
    let means = report
        .evidence
        .iter()
        .flat_map(|evidence| evidence.labels.iter().map(|label| label.mean).chain([evidence.others]));
    let sizes = means.flat_map(|mean| [mean.predicted, mean.missed]).flatten().map(f64::abs);
    Ok(Page(CategoryPage {
        links: Links { run, query },
        curve_chart: chart::precision_recall(report.curve.as_ref(), &report.category.figures, report.images),
        reliability_chart: chart::reliability(&report.calibration),
        longest: sizes.fold(0.0, f64::max),
        report,
    }))
}

impl CategoriesPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    /// Each true category with its cells.
    fn rows<'a>(&'a self, confusion: &'a [Vec<u64>]) -> impl Iterator<Item = (&'a str, Vec<Cell<'a>>)> {
        let categories = &self.report.categories;
        categories.iter().zip(confusion).enumerate().map(move |(at, (truth, row))| {
            let cell = |(other, images): (usize, &u64)| Cell {
                predicted: &categories[other].name,
                images: *images,
                share: *images as f64 / truth.figures.support.max(1) as f64,
                right: other == at,
            };
            (truth.name.as_str(), row.iter().enumerate().map(cell).collect())
        })
    }

    fn json(&self) -> String {
        self.links.json(&self.links.categories())
    }
}

impl CategoryPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn confusions(&self) -> [ConfusionTable<'_>; 2] {
        let report = &self.report;
        [
            ConfusionTable {
                title: "What its images were taken for",
                meaning: "of its images",
                of: report.category.figures.support,
                others: &report.taken_for,
                predicted: true,
            },
            ConfusionTable {
                title: "What was taken for it",
                meaning: "of the images that were taken for it",
                of: report.category.figures.predicted,
                others: &report.taken_from,
                predicted: false,
            },
        ]
    }

    fn confused(&self, table: &ConfusionTable<'_>, other: &str) -> ImageList {
        let name = &self.report.category.name;
        if table.predicted { self.links.confused(name, other) } else { self.links.confused(other, name) }
    }

    /// The length of a contribution's bar, of which half of the track is the longest.
    fn length(&self, contribution: &f64) -> String {
        text::width(contribution.abs(), 2.0 * self.longest)
    }

    fn json(&self) -> String {
        self.links.json(&self.links.category(&self.report.category.name))
    }
}
