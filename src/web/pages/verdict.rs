//! The verdict of a comparison, in plain words.

use crate::{
    domain::{RunId, ratio, spec::Objective},
    report::{Cell, Comparison, ComparisonRow, Figure, Figures},
    web::filters,
};

/// Who is right for the right reasons most often, and what stands against saying so.
pub struct Verdict {
    /// “resnet-tiny · top-k softmax”.
    pub best: String,
    /// The runs of its cell.
    pub runs: Vec<RunId>,
    /// Its IA.
    pub ia: Figure,
    /// Who is right for the wrong reasons most often; `None` where nobody is.
    pub wrong: Option<WrongReasons>,
    /// It is told how many labels there are.
    pub oracle: bool,
    /// Others whose interval overlaps its own.
    pub rivals: Vec<Rival>,
    /// It is one among several.
    pub compared: usize,
}

/// A cell whose interval overlaps the best one's.
pub struct Rival {
    /// “resnet-tiny · top-k softmax”.
    pub name: String,
    /// Its run and the best one, to be held against each other; `None` where one of the two is a group.
    pub pair: Option<(RunId, RunId)>,
}

/// The headline case: the cell with the largest share of images that are right for the wrong reasons.
pub struct WrongReasons {
    /// “resnet-tiny · top-k softmax”.
    pub name: String,
    /// The run, or the newest of its group.
    pub run: RunId,
    /// How many runs the cell has, which differ in the seed alone.
    pub seeds: usize,
    /// Its share of FFCT among all test images; of a group the mean.
    pub of_all: f64,
    /// Its share of FFCT among the right categories, 1 − IR; of a group the mean.
    pub of_right: Option<f64>,
    /// It is one among several.
    pub compared: usize,
}

impl Verdict {
    /// `None` while no cell has a defined IA.
    pub fn of(comparison: &Comparison) -> Option<Self> {
        let cells = || comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
        let name = |(backbone, cell): (_, &Cell)| format!("{backbone} · {}", filters::mode(cell.objective));
        let ia = |cell: &Cell| cell.figures.ia.value.filter(|value| value.is_finite());
        let (index, best) = cells()
            .enumerate()
            .filter(|(_, (_, cell))| ia(cell).is_some())
            // Of equals the first one, as in the table.
            .reduce(|best, next| if ia(next.1.1) > ia(best.1.1) { next } else { best })?;
        let cell = best.1;
        let rivals = cells()
            .enumerate()
            .filter(|(other, (_, rival))| *other != index && overlap(&rival.figures.ia, &cell.figures.ia));
        Some(Self {
            best: name(best),
            runs: cell.runs.clone(),
            ia: cell.figures.ia,
            wrong: wrong(&comparison.rows),
            oracle: cell.objective == Objective::TopKSoftmax,
            rivals: rivals
                .map(|(_, rival)| Rival { name: name(rival), pair: rival.1.single().zip(cell.single()) })
                .collect(),
            compared: cells().count(),
        })
    }

    /// Nobody was right for the right reasons, not once: there is no best one.
    pub fn none_right(&self) -> bool {
        self.ia.value == Some(0.0)
    }
}

/// The cell with the highest share of FFCT, of equals the first one.
fn wrong(rows: &[ComparisonRow]) -> Option<WrongReasons> {
    let cells = || rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
    let shares = cells().filter_map(|(backbone, cell)| {
        let Figures { ia, ir, coarse_accuracy, .. } = cell.figures;
        Some(WrongReasons {
            name: format!("{backbone} · {}", filters::mode(cell.objective)),
            run: *cell.runs.first()?,
            seeds: cell.runs.len(),
            // What has the right category is FTCT or FFCT. That holds for means, too.
            of_all: match cell.counts {
                Some(counts) => ratio(counts.ffct, counts.total())?,
                None => coarse_accuracy.value? - ia.value?,
            },
            of_right: ir.value.map(|ir| 1.0 - ir),
            compared: cells().count(),
        })
    });
    // A mean that should be 0 may miss it by rounding.
    shares.reduce(|most, next| if next.of_all > most.of_all { next } else { most }).filter(|most| most.of_all > 1e-9)
}

/// Whether two figures are too close to tell apart: their 95% intervals, or mean ± spread of a group, share a value. Of a
/// figure whose uncertainty is unknown, the value alone counts.
fn overlap(a: &Figure, b: &Figure) -> bool {
    let range = |figure: &Figure| {
        let value = figure.value?;
        let spread = figure.spread.unwrap_or(0.0);
        Some((figure.low.unwrap_or(value - spread), figure.high.unwrap_or(value + spread)))
    };
    range(a).zip(range(b)).is_some_and(|((a_low, a_high), (b_low, b_high))| a_low <= b_high && b_low <= a_high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Counts, spec::Backbone};

    #[test]
    fn the_most_wrong_may_be_a_group_of_seeds() {
        let figure = |value| Figure { value: Some(value), ..Figure::default() };
        let cell = |objective, runs: &[i64], counts: Option<Counts>, [ia, ir, coarse]: [f64; 3]| Cell {
            objective,
            rule: String::new(),
            runs: runs.iter().copied().map(RunId).collect(),
            counts,
            figures: Figures { ia: figure(ia), ir: figure(ir), coarse_accuracy: figure(coarse), ..Figures::default() },
            difference: None,
            groups: Vec::new(),
        };
        let counts = Counts { ftct: 50, ftcf: 0, ffct: 20, ffcf: 30 };
        let single = cell(Objective::TopKSoftmax, &[3], Some(counts), [0.5, 5.0 / 7.0, 0.7]);
        let of = |seeds| {
            [ComparisonRow { backbone: Backbone::Vgg16, cells: vec![single.clone(), seeds], coarse_only: None }]
        };
        let most = wrong(&of(cell(Objective::SigmoidThreshold, &[9, 8], None, [0.4, 0.6, 0.65]))).unwrap();
        assert_eq!((most.run, most.seeds, most.name.as_str()), (RunId(9), 2, "vgg16 · sigmoid threshold"));
        assert!((most.of_all - 0.25).abs() < 1e-12 && (most.of_right.unwrap() - 0.4).abs() < 1e-12);
        let most = wrong(&of(cell(Objective::SigmoidThreshold, &[9, 8], None, [0.4, 0.8, 0.5]))).unwrap();
        assert_eq!((most.run, most.of_all), (RunId(3), 0.2));
    }

    #[test]
    fn intervals_overlap_when_they_share_a_value() {
        let figure = |low, high| Figure { value: Some(low), low: Some(low), high: Some(high), ..Figure::default() };
        let group = |mean, spread| Figure { value: Some(mean), spread: Some(spread), ..Figure::default() };
        assert!(overlap(&figure(0.5, 0.6), &figure(0.6, 0.7)));
        assert!(!overlap(&figure(0.5, 0.59), &figure(0.6, 0.7)));
        assert!(!overlap(&figure(0.5, 0.6), &Figure::default()));
        assert!(overlap(&group(0.5, 0.1), &group(0.49, 0.1)) && overlap(&group(0.5, 0.1), &figure(0.58, 0.7)));
        assert!(!overlap(&group(0.5, 0.01), &group(0.4, 0.01)));
    }
}
