//! The interpretability indices (eq. 1–4 of the paper).

use serde::{Deserialize, Serialize};

use super::Counts;

/// The indices of one table of counts. `None` is *undefined* (a zero denominator), never 0 or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Indices {
    /// IA = FTCT / all (eq. 1).
    pub ia: Option<f64>,
    /// IP = FTCT / (FTCT + FTCF) (eq. 2).
    pub ip: Option<f64>,
    /// IR = FTCT / (FTCT + FFCT) (eq. 3).
    pub ir: Option<f64>,
    /// IF1 = 2·IP·IR / (IP + IR) (eq. 4 with α = 1).
    pub if1: Option<f64>,
    /// (FTCT + FFCT) / all.
    pub coarse_accuracy: Option<f64>,
    /// (FTCT + FTCF) / all.
    pub fine_exact_match: Option<f64>,
}

impl Indices {
    /// Indices from counts.
    pub fn of(counts: Counts) -> Self {
        let Counts { ftct, ftcf, ffct, .. } = counts;
        let ip = ratio(ftct, ftct + ftcf);
        let ir = ratio(ftct, ftct + ffct);
        Self {
            ia: ratio(ftct, counts.total()),
            ip,
            ir,
            if1: if_alpha(ip, ir, 1.0),
            coarse_accuracy: ratio(ftct + ffct, counts.total()),
            fine_exact_match: ratio(ftct + ftcf, counts.total()),
        }
    }

    /// Eq. 4 as printed: (α² + 1)·IP·IR / (IP + IR). Can exceed 1 for α ≠ 1.
    pub fn if_alpha(self, alpha: f64) -> Option<f64> {
        if_alpha(self.ip, self.ir, alpha)
    }

    /// The usual F_β: (β² + 1)·IP·IR / (β²·IP + IR). Equals [`Self::if_alpha`] at 1.
    pub fn f_beta(self, beta: f64) -> Option<f64> {
        let (ip, ir) = (self.ip?, self.ir?);
        let denominator = beta * beta * ip + ir;
        (denominator > 0.0).then(|| (beta * beta + 1.0) * ip * ir / denominator)
    }
}

/// `part / whole`, undefined when `whole` is zero.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn if_alpha(ip: Option<f64>, ir: Option<f64>, alpha: f64) -> Option<f64> {
    let (ip, ir) = (ip?, ir?);
    (ip + ir > 0.0).then(|| (alpha * alpha + 1.0) * ip * ir / (ip + ir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_worked_example() {
        // 6 + 2 + 3 + 1 = 12 images: IA 6/12, IP 6/8, IR 6/9, IF1 = 2·(3/4)(2/3)/(3/4 + 2/3) = 12/17.
        let indices = Counts { ftct: 6, ftcf: 2, ffct: 3, ffcf: 1 }.indices();
        assert_eq!(indices.ia, Some(0.5));
        assert_eq!(indices.ip, Some(0.75));
        assert_eq!(indices.ir, Some(6.0 / 9.0));
        assert!((indices.if1.unwrap() - 12.0 / 17.0).abs() < 1e-15);
        assert_eq!(indices.coarse_accuracy, Some(0.75));
        assert_eq!(indices.fine_exact_match, Some(8.0 / 12.0));
        // α = 2: (5·0.5)/(17/12) = 30/17 > 1; F_2 = 5·0.5/(4·0.75 + 2/3) = 15/22.
        assert!((indices.if_alpha(2.0).unwrap() - 30.0 / 17.0).abs() < 1e-15);
        assert!((indices.f_beta(2.0).unwrap() - 15.0 / 22.0).abs() < 1e-15);
    }

    #[test]
    fn zero_denominators_are_undefined() {
        let none = Counts::default().indices();
        assert_eq!((none.ia, none.ip, none.ir, none.if1), (None, None, None, None));
        // No image with a right fine set: IP has nothing to divide by.
        let wrong = Counts { ffct: 3, ffcf: 1, ..Counts::default() }.indices();
        assert_eq!((wrong.ia, wrong.ip, wrong.ir, wrong.if1), (Some(0.0), None, Some(0.0), None));
        // IP = IR = 0.
        let zero = Counts { ftcf: 1, ffct: 1, ..Counts::default() }.indices();
        assert_eq!((zero.ip, zero.ir, zero.if1, zero.f_beta(1.0)), (Some(0.0), Some(0.0), None, None));
    }

    #[test]
    fn the_papers_rows_recompute_to_what_the_method_says() {
        for (ip, ir, if1) in [
            (0.9947, 0.7544, 0.8580),
            (0.9981, 0.7774, 0.8740),
            (0.9988, 0.8102, 0.8947),
            (1.0, 0.6146, 0.7613),
            (1.0, 0.6799, 0.8095),
            (1.0, 0.6632, 0.7975),
        ] {
            assert!((if_alpha(Some(ip), Some(ir), 1.0).unwrap() - if1).abs() < 5e-5);
        }
    }
}
