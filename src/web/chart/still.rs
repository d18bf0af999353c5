//! Charts of frozen reports: SVG in the page, without a script. Lengths are in units of the picture, which is 900 wide.

use askama::Template;

use super::MAX_POINTS;
use crate::{
    report::{Comparison, EpochPoint, Figure, Figures, RunReport},
    web::filters,
};

/// IA, IP, IR and IF1 as bars from 0 to 1 with their intervals: a panel for each, a row for each run or group.
#[derive(Template)]
#[template(path = "frozen/bars.html")]
pub struct Bars {
    rows: Vec<BarRow>,
    panels: Vec<BarPanel>,
    height: f64,
}

struct BarPanel {
    name: &'static str,
    left: f64,
    /// Where 0, 0.5 and 1 are.
    ticks: [(f64, &'static str); 3],
}

struct BarRow {
    name: String,
    detail: String,
    /// Of its middle.
    y: f64,
    bars: Vec<Bar>,
}

struct Bar {
    left: f64,
    /// Of the bar; nothing where the figure is undefined.
    length: Option<f64>,
    /// Ends of the interval.
    interval: Option<(f64, f64)>,
    /// Where its number begins.
    text_left: f64,
    text: String,
}

impl Bars {
    /// Where the first panel begins.
    const LEFT: f64 = 190.0;
    /// From a panel to the next.
    const APART: f64 = 180.0;
    /// Of a bar of 1.
    const LENGTH: f64 = 110.0;
    /// Of the first row.
    const TOP: f64 = 30.0;
    /// Of a row.
    const ROW: f64 = 38.0;

    /// Of all backbones and modes that decide fine labels.
    pub fn of_comparison(comparison: &Comparison) -> Self {
        let cells = comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row.backbone, cell)));
        Self::new(cells.map(|(backbone, cell)| {
            let seeds = if cell.runs.len() > 1 { format!(", {} seeds", cell.runs.len()) } else { String::new() };
            (backbone.to_string(), format!("{}{seeds}", filters::mode(cell.objective)), &cell.figures)
        }))
    }

    /// Of one run; without rows for one that is coarse-only.
    pub fn of_run(run: &RunReport) -> Self {
        let results = run.results.iter().filter(|results| results.counts.is_some());
        let mode = filters::mode(run.spec.objective);
        Self::new(results.map(|results| (run.spec.backbone.to_string(), mode.to_owned(), &results.figures)))
    }

    fn new<'a>(of: impl Iterator<Item = (String, String, &'a Figures)>) -> Self {
        let left = |panel: usize| Self::LEFT + Self::APART * panel as f64;
        let row = |(index, (name, detail, figures)): (usize, (String, String, &Figures))| BarRow {
            name,
            detail,
            y: Self::TOP + Self::ROW * (index as f64 + 0.5),
            bars: [figures.ia, figures.ip, figures.ir, figures.if1]
                .iter()
                .enumerate()
                .map(|(panel, figure)| Bar::of(left(panel), figure))
                .collect(),
        };
        let rows: Vec<BarRow> = of.enumerate().map(row).collect();
        let panel = |(index, name)| {
            let left = left(index);
            BarPanel {
                name,
                left,
                ticks: [(left, "0"), (left + Self::LENGTH / 2.0, "0.5"), (left + Self::LENGTH, "1")],
            }
        };
        Self {
            height: Self::TOP + Self::ROW * rows.len() as f64 + 22.0,
            panels: ["IA", "IP", "IR", "IF1"].into_iter().enumerate().map(panel).collect(),
            rows,
        }
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn bottom(&self) -> f64 {
        self.height - 20.0
    }
}

impl Bar {
    fn of(left: f64, figure: &Figure) -> Self {
        let x = |value: f64| rounded(left + Bars::LENGTH * value.clamp(0.0, 1.0));
        let ends = match (figure.low, figure.high, figure.value, figure.spread) {
            (Some(low), Some(high), _, _) => Some((low, high)),
            (_, _, Some(value), Some(spread)) => Some((value - spread, value + spread)),
            _ => None,
        };
        Self {
            left,
            length: figure.value.map(|value| rounded(x(value) - left)),
            interval: ends.map(|(low, high)| (x(low), x(high))),
            text_left: if figure.value.is_some() { left + Bars::LENGTH + 8.0 } else { left + 6.0 },
            text: filters::index(figure.value),
        }
    }
}

/// Loss of training and validation, and IA and coarse accuracy on validation, by epoch: a panel for each pair.
#[derive(Template)]
#[template(path = "frozen/curves.html")]
pub struct Curves {
    panels: Vec<CurvePanel>,
}

struct CurvePanel {
    title: &'static str,
    left: f64,
    right: f64,
    x_ticks: Vec<(f64, String)>,
    y_ticks: Vec<(f64, String)>,
    lines: Vec<CurveLine>,
}

struct CurveLine {
    name: &'static str,
    /// A custom property of the style sheet.
    colour: &'static str,
    dashes: &'static str,
    /// As in `d` of a path.
    path: String,
    /// Where its points are, if there are few.
    dots: Vec<(f64, f64)>,
    /// Where its name begins.
    name_left: f64,
}

/// What a line shows of an epoch.
type Measure = fn(&EpochPoint) -> Option<f64>;

impl Curves {
    const TOP: f64 = 48.0;
    const BOTTOM: f64 = 250.0;
    /// A line of more points has no dots.
    const MAX_DOTS: usize = 60;

    /// Of a run's epochs.
    pub fn of(points: &[EpochPoint]) -> Self {
        if points.is_empty() {
            return Self { panels: Vec::new() };
        }
        let step = points.len().div_ceil(MAX_POINTS).max(1);
        let shown: Vec<&EpochPoint> = points.iter().step_by(step).collect();
        let losses: [(_, Measure); 2] =
            [("training", |point| Some(point.train_loss)), ("validation", |point| point.validation_loss)];
        let shares: [(_, Measure); 2] =
            [("IA", |point| point.validation_ia), ("coarse accuracy", |point| point.validation_coarse_accuracy)];
        let highest = shown.iter().flat_map(|point| losses.map(|(_, of)| of(point))).flatten();
        let highest = highest.filter(|loss| loss.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        Self {
            panels: vec![
                CurvePanel::of("Loss", (52.0, 430.0), highest, &shown, losses),
                CurvePanel::of("On the validation images", (512.0, 890.0), 1.0, &shown, shares),
            ],
        }
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.panels.is_empty()
    }
}

impl CurvePanel {
    /// `highest`: the value at the top.
    fn of(
        title: &'static str,
        (left, right): (f64, f64),
        highest: f64,
        points: &[&EpochPoint],
        of: [(&'static str, Measure); 2],
    ) -> Self {
        let epochs = points.iter().map(|point| f64::from(point.epoch));
        let (first, last) = (epochs.clone().fold(f64::INFINITY, f64::min), epochs.fold(1.0, f64::max));
        let x = |epoch: f64| {
            rounded(left + (right - left) * if last > first { (epoch - first) / (last - first) } else { 0.5 })
        };
        let y = |value: f64| rounded(Curves::BOTTOM - (Curves::BOTTOM - Curves::TOP) * value / highest);
        let looks = if title == "Loss" {
            [("--series-1", "none"), ("--series-2", "7 4")]
        } else {
            [("--series-3", "none"), ("--series-4", "2 3")]
        };
        let lines = of.into_iter().zip(looks).enumerate().map(|(index, ((name, of), (colour, dashes)))| {
            let at = |point: &&EpochPoint| {
                let value = of(point).filter(|value| value.is_finite());
                value.map(|value| (x(point.epoch.into()), y(value)))
            };
            let places: Vec<Option<(f64, f64)>> = points.iter().map(at).collect();
            CurveLine {
                name,
                colour,
                dashes,
                path: path(&places),
                dots: if places.len() > Curves::MAX_DOTS { Vec::new() } else { places.into_iter().flatten().collect() },
                name_left: left + 150.0 * index as f64,
            }
        });
        let whole = |tick: &f64| tick.fract() == 0.0 && *tick >= first;
        Self {
            title,
            left,
            right,
            x_ticks: ticks(last).into_iter().filter(whole).map(|tick| (x(tick), tick.to_string())).collect(),
            y_ticks: ticks(highest).into_iter().map(|tick| (y(tick), tick.to_string())).collect(),
            lines: lines.collect(),
        }
    }
}

/// A line through the places, with gaps where there are none.
fn path(places: &[Option<(f64, f64)>]) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for place in places {
        if let Some((x, y)) = place {
            path.push_str(&format!("{}{x} {y}", if drawing { 'L' } else { 'M' }));
        }
        drawing = place.is_some();
    }
    path
}

/// Round numbers from 0 to `highest`, four to nine.
fn ticks(highest: f64) -> Vec<f64> {
    let power = 10f64.powf((highest / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|factor| factor * power).into_iter().find(|step| *step <= highest / 4.0);
    let step = step.unwrap_or(power);
    // Decimal digits of the step, so that 3 · 0.1 is 0.3.
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let count = (highest / step + 1e-9).floor() as u32;
    (0..=count).filter_map(|n| format!("{:.digits$}", f64::from(n) * step).parse().ok()).collect()
}

/// A tenth of a unit is enough.
fn rounded(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let figure = Figure { value: Some(0.5), low: Some(0.25), high: Some(0.75), ..Figure::default() };
        let bar = Bar::of(100.0, &figure);
        assert_eq!((bar.length, bar.interval, bar.text.as_str()), (Some(55.0), Some((127.5, 182.5)), "0.500"));
        let group = Figure { value: Some(0.9), spread: Some(0.2), ..Figure::default() };
        assert_eq!(Bar::of(0.0, &group).interval, Some((77.0, 110.0)));
        let undefined = Bar::of(0.0, &Figure::default());
        assert_eq!((undefined.length, undefined.interval, undefined.text.as_str()), (None, None, "–"));
    }

    #[test]
    fn curves_have_gaps_and_round_ticks() {
        assert_eq!(path(&[Some((0.0, 1.0)), Some((2.0, 3.5)), None, Some((4.0, 5.0))]), "M0 1L2 3.5M4 5");
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(0.31), [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]);
        assert_eq!(ticks(7.9), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(ticks(120.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
    }

    #[test]
    fn a_chart_of_nothing_is_empty() {
        assert!(Curves::of(&[]).is_empty() && Bars::new(std::iter::empty()).is_empty());
    }
}
