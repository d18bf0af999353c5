//! `/transitions?a=ID&b=ID`: two runs on the same test images.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    analysis::McNemarMethod,
    domain::Outcome,
    report::{Figure, PairedTest, Reports, RunBrief, TransitionsQuery, TransitionsReport},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/transitions.html")]
pub struct TransitionsPage {
    query: TransitionsQuery,
    report: TransitionsReport,
    /// Runs on the same test images.
    choices: Vec<RunBrief>,
    chart: Chart,
}

pub async fn show(
    State(reports): State<Reports>,
    Query(query): Query<TransitionsQuery>,
) -> Result<Page<TransitionsPage>, Problem> {
    let report = reports.transitions(&query).await?;
    let choices = reports.comparable(&report.a.run).await?;
    Ok(Page(TransitionsPage { chart: chart::differences(&report), query, report, choices }))
}

/// One line of the table of figures.
struct FigureRow {
    name: &'static str,
    a: Figure,
    b: Figure,
    difference: Figure,
}

/// One line of the table of tests.
struct TestRow {
    name: &'static str,
    tests: &'static str,
    test: PairedTest,
}

/// One line of the table of outcomes: an outcome under A.
struct OutcomeRow {
    outcome: Outcome,
    images: u64,
    cells: Vec<Cell>,
}

/// An outcome under B of such images.
struct Cell {
    outcome: Outcome,
    images: u64,
    /// Where they can be seen.
    address: Option<String>,
}

impl TransitionsPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn has_rule(&self) -> bool {
        self.query.rule.is_some() || self.query.k.is_some() || self.query.threshold.is_some()
    }

    fn figures(&self) -> Vec<FigureRow> {
        let (a, b) = (&self.report.a.results.figures, &self.report.b.results.figures);
        let d = &self.report.differences;
        let row = |name, a, b, difference| FigureRow { name, a, b, difference };
        vec![
            row("IA", a.ia, b.ia, d.ia),
            row("IP", a.ip, b.ip, d.ip),
            row("IR", a.ir, b.ir, d.ir),
            row("IF1", a.if1, b.if1, d.if1),
            row("Coarse accuracy", a.coarse_accuracy, b.coarse_accuracy, d.coarse_accuracy),
            row("Fine exact match", a.fine_exact_match, b.fine_exact_match, d.fine_exact_match),
        ]
    }

    fn tests(&self) -> Vec<TestRow> {
        let ftct = self.report.ftct.map(|test| TestRow { name: "FTCT", tests: "whether IA differs", test });
        let (name, tests) = ("Category right", "whether coarse accuracy differs");
        ftct.into_iter().chain([TestRow { name, tests, test: self.report.category }]).collect()
    }

    fn method(&self, test: &PairedTest) -> String {
        match test.test.method {
            McNemarMethod::Exact => "exact binomial".into(),
            McNemarMethod::ChiSquared => format!("χ² = {}", text::number(test.test.statistic)),
        }
    }

    fn rows(&self, outcomes: &[[u64; 4]; 4]) -> Vec<OutcomeRow> {
        let row = |(a, row): (Outcome, &[u64; 4])| OutcomeRow {
            outcome: a,
            images: row.iter().sum(),
            cells: Outcome::ALL
                .into_iter()
                .zip(row)
                .map(|(b, &images)| Cell { outcome: b, images, address: self.gallery(a, b).filter(|_| images > 0) })
                .collect(),
        };
        Outcome::ALL.into_iter().zip(outcomes).map(row).collect()
    }

    /// B's images of one outcome that had another under A. Galleries know each run's own rule alone, and the images of one
    /// data set.
    fn gallery(&self, a: Outcome, b: Outcome) -> Option<String> {
        let (run_a, run_b) = (&self.report.a.run, &self.report.b.run);
        let other = run_a.id.to_string();
        (!self.has_rule() && run_a.dataset == run_b.dataset).then(|| {
            let query = [("outcome", Some(b.code())), ("other", Some(&*other)), ("other_outcome", Some(a.code()))];
            text::address(&format!("/runs/{}/images", run_b.id), &query)
        })
    }

    fn swapped(&self) -> String {
        self.address("/transitions", self.report.b.run.id, self.report.a.run.id)
    }

    fn json(&self) -> String {
        self.address("/api/v1/transitions", self.report.a.run.id, self.report.b.run.id)
    }

    fn address(&self, path: &str, a: impl ToString, b: impl ToString) -> String {
        let TransitionsQuery { a: _, b: _, rule, k, threshold } = &self.query;
        let (a, b) = (a.to_string(), b.to_string());
        let (k, threshold) = (k.map(|k| k.to_string()), threshold.map(|threshold| threshold.to_string()));
        let query = [
            ("a", Some(a.as_str())),
            ("b", Some(b.as_str())),
            ("rule", rule.as_deref()),
            ("k", k.as_deref()),
            ("threshold", threshold.as_deref()),
        ];
        text::address(path, &query)
    }
}
