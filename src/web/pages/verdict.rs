//! The verdict of a comparison, in plain words.

use crate::{
    domain::{RunId, ratio, spec::Objective},
    report::{Cell, Comparison, Figure},
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
    /// Who is right for the wrong reasons most often; `None` where nobody is, or all cells are groups.
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

/// The headline case: the run with the most images that are right for the wrong reasons.
pub struct WrongReasons {
    /// “resnet-tiny · top-k softmax”.
    pub name: String,
    /// The run.
    pub run: RunId,
    /// FFCT.
    pub images: u64,
    /// Images with the right category.
    pub right: u64,
    /// The share of those that it gets right for the wrong reasons.
    pub share: f64,
    /// All test images.
    pub total: u64,
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
            wrong: wrong(comparison),
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

/// The run with the highest share of FFCT, of equals the first one. Groups of seeds have shares of their own, and no images.
fn wrong(comparison: &Comparison) -> Option<WrongReasons> {
    let cells = || comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
    let single = cells().filter_map(|(backbone, cell)| {
        let (counts, run) = (cell.counts?, cell.single()?);
        let name = format!("{backbone} · {}", filters::mode(cell.objective));
        let (images, right, total) = (counts.ffct, counts.ftct + counts.ffct, counts.total());
        let share = ratio(images, right)?;
        Some(WrongReasons { name, run, images, right, share, total, compared: cells().count() })
    });
    single.reduce(|most, next| if next.images > most.images { next } else { most }).filter(|most| most.images > 0)
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
