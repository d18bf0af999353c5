//! The verdict of a comparison, in plain words.

use crate::{
    domain::{RunId, spec::Objective},
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
    /// Its coarse accuracy.
    pub coarse_accuracy: Option<f64>,
    /// Images that it gets right for the wrong reasons, of how many, and the run to look at; `None` for a group.
    pub wrong_reasons: Option<WrongReasons>,
    /// It is told how many labels there are.
    pub oracle: bool,
    /// Others whose interval overlaps its own.
    pub rivals: Vec<String>,
    /// It is one among several.
    pub compared: usize,
}

/// The headline case of a run.
pub struct WrongReasons {
    /// The run.
    pub run: RunId,
    /// FFCT.
    pub images: u64,
    /// All test images.
    pub total: u64,
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
            coarse_accuracy: cell.figures.coarse_accuracy.value,
            wrong_reasons: cell.counts.zip(cell.runs.first()).map(|(counts, run)| WrongReasons {
                run: *run,
                images: counts.ffct,
                total: counts.total(),
            }),
            oracle: cell.objective == Objective::TopKSoftmax,
            rivals: rivals.map(|(_, rival)| name(rival)).collect(),
            compared: cells().count(),
        })
    }
}

/// Whether two 95% intervals share a value; false if either is unknown.
fn overlap(a: &Figure, b: &Figure) -> bool {
    match (a.low, a.high, b.low, b.high) {
        (Some(a_low), Some(a_high), Some(b_low), Some(b_high)) => a_low <= b_high && b_low <= a_high,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_overlap_when_they_share_a_value() {
        let figure = |low, high| Figure { low: Some(low), high: Some(high), ..Figure::default() };
        assert!(overlap(&figure(0.5, 0.6), &figure(0.6, 0.7)));
        assert!(!overlap(&figure(0.5, 0.59), &figure(0.6, 0.7)));
        assert!(!overlap(&figure(0.5, 0.6), &Figure::default()));
    }
}
