//! What a figure is, and how it came about: its formula with the counts put in.

use crate::{
    domain::Counts,
    report::{Figure, Figures},
};

/// A figure with what stands behind it.
pub struct Definition {
    /// `IA`, …
    pub name: &'static str,
    /// What it says, in words.
    pub meaning: &'static str,
    /// As the paper has it.
    pub formula: &'static str,
    /// The formula with the counts in it.
    pub worked: String,
    /// How its interval is computed.
    pub interval: &'static str,
    /// The figure.
    pub figure: Figure,
}

const WILSON: &str = "95% interval: Wilson’s score interval of a proportion.";
const BOOTSTRAP: &str = "95% interval: percentile bootstrap, 10,000 resamples of the images.";

/// The figures of one run, in the order in which they are shown.
pub fn of(counts: Counts, figures: &Figures) -> Vec<Definition> {
    let Counts { ftct, ftcf, ffct, .. } = counts;
    let total = counts.total();
    let [ia, ip, ir, if1, coarse, fine] = figures.named();
    let definition = |(name, figure), meaning, formula, worked, interval| Definition {
        name,
        meaning,
        formula,
        worked,
        interval,
        figure,
    };
    vec![
        definition(ia, "right for the right reasons, of all images", "FTCT / all", format!("{ftct} / {total}"), WILSON),
        definition(
            ip,
            "right category, where the fine labels are right",
            "FTCT / (FTCT + FTCF)",
            format!("{ftct} / ({ftct} + {ftcf})"),
            WILSON,
        ),
        definition(
            ir,
            "right fine labels, where the category is right",
            "FTCT / (FTCT + FFCT)",
            format!("{ftct} / ({ftct} + {ffct})"),
            WILSON,
        ),
        definition(
            if1,
            "harmonic mean of IP and IR",
            "2 · IP · IR / (IP + IR)",
            format!("2 · {ftct} / (2 · {ftct} + {ftcf} + {ffct})"),
            BOOTSTRAP,
        ),
        definition(
            coarse,
            "right category, for whatever reason",
            "(FTCT + FFCT) / all",
            format!("({ftct} + {ffct}) / {total}"),
            WILSON,
        ),
        definition(
            fine,
            "all fine labels right and none too many",
            "(FTCT + FTCF) / all",
            format!("({ftct} + {ftcf}) / {total}"),
            WILSON,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_formula_gives_the_figure() {
        let counts = Counts { ftct: 30, ftcf: 5, ffct: 20, ffcf: 45 };
        let tally = crate::domain::Tally { images: 100, coarse_correct: 50, counts: Some(counts) };
        let worked: Vec<String> = of(counts, &Figures::of_run(tally)).into_iter().map(|it| it.worked).collect();
        // 0.3, 6/7, 0.6, 60/85, 0.5, 0.35
        assert_eq!(
            worked,
            [
                "30 / 100",
                "30 / (30 + 5)",
                "30 / (30 + 20)",
                "2 · 30 / (2 · 30 + 5 + 20)",
                "(30 + 20) / 100",
                "(30 + 5) / 100"
            ]
        );
        let values = of(counts, &Figures::of_run(tally)).into_iter().map(|it| it.figure.value.unwrap());
        let expected = [0.3, 6.0 / 7.0, 0.6, 60.0 / 85.0, 0.5, 0.35];
        assert!(values.zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-15));
    }
}
