//! The losses (method, "Losses"): a mean over the batch of a sum over the classes.
//!
//! Composed from tensor operations so that value and gradient are finite at any finite logit: every exponential is of a
//! number ≤ 0, every logarithm of one ≥ 1. The shift that makes them so cancels in the result and is detached, so no
//! gradient flows through a maximum, where it has none.

use candle_core::{D, Result, Tensor};

use super::Output;
use crate::{
    domain::{LabelSet, RunSpec, Taxonomy},
    exchange::ScoreActivation,
};

/// Which loss a run minimises.
#[derive(Clone, Debug, PartialEq)]
pub struct LossSpec {
    /// Softmax: focal (eq. 5). Sigmoid: binary cross-entropy (eq. 6). `None`: eq. 7 alone.
    pub activation: Option<ScoreActivation>,
    /// α of eq. 5 for each fine label: `[fine]`.
    pub focal_alpha: Vec<f64>,
    /// γ of eq. 5.
    pub focal_gamma: f64,
}

/// The truth of one batch.
#[derive(Clone, Debug)]
pub struct Targets {
    /// y: 1 where the label is true, else 0; `[n, fine]`, in the logits' dtype.
    pub fine: Tensor,
    /// Category index, uint32; `[n]`.
    pub coarse: Tensor,
}

/// The loss of one batch; scalars.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Eq. 8: their sum.
    pub total: Tensor,
    /// Eq. 5 or 6; `None` for a coarse-only model.
    pub fine: Option<Tensor>,
    /// Eq. 7.
    pub coarse: Tensor,
}

impl LossSpec {
    /// The run's, for a data set with these labels. The error says what of the specification does not fit them.
    pub fn of(spec: &RunSpec, taxonomy: &Taxonomy) -> std::result::Result<Self, String> {
        Ok(Self {
            activation: ScoreActivation::of(spec.objective),
            focal_alpha: spec.focal_alphas(taxonomy)?,
            focal_gamma: spec.focal_gamma,
        })
    }

    /// `L_fine + L_coarse` (eq. 8).
    pub fn loss(&self, output: &Output, targets: &Targets) -> Result<Loss> {
        let coarse = cross_entropy(&output.coarse, &targets.coarse)?;
        let fine = match (&output.fine, self.activation) {
            (Some(logits), Some(ScoreActivation::Softmax)) => {
                Some(focal(logits, &targets.fine, &self.focal_alpha, self.focal_gamma)?)
            }
            (Some(logits), Some(ScoreActivation::Sigmoid)) => Some(binary_cross_entropy(logits, &targets.fine)?),
            (Some(_), None) | (None, Some(_) | None) => None,
        };
        let total = match &fine {
            Some(fine) => (fine + &coarse)?,
            None => coarse.clone(),
        };
        Ok(Loss { total, fine, coarse })
    }
}

/// y as `[n, fine]` rows, row-major: 1 for each true label.
pub fn multi_hot<'a>(labels: impl Iterator<Item = &'a LabelSet>, fine_count: usize) -> Vec<f32> {
    let mut rows = Vec::new();
    for set in labels {
        let start = rows.len();
        rows.resize(start + fine_count, 0.0);
        set.iter().for_each(|fine| rows[start + fine.index()] = 1.0);
    }
    rows
}

/// Focal loss of the softmaxed fine scores (eq. 5): `−1/n Σ_i Σ_t α_t (1 − p_t)^γ log(p_t) y_t`, `p = softmax(z)`.
/// `logits`, `targets`: `[n, fine]`; `alpha`: `[fine]`; returns a scalar. Source: Lin et al. 2017 via the paper, section 4.1.
pub fn focal(logits: &Tensor, targets: &Tensor, alpha: &[f64], gamma: f64) -> Result<Tensor> {
    let alpha = Tensor::new(alpha, logits.device())?.to_dtype(logits.dtype())?;
    let weights = targets.broadcast_mul(&alpha)?;
    let log_p = log_softmax(logits)?;
    let terms = if gamma == 0.0 {
        log_p
    } else {
        // The bound keeps u^(γ−1), which the gradient has, finite at p = 1 for γ < 1; log(p) is 0 there.
        let u = log_p.exp()?.affine(-1.0, 1.0)?.maximum(1e-30)?;
        (u.powf(gamma)? * log_p)?
    };
    batch_mean(&(terms * weights)?)?.neg()
}

/// Binary cross-entropy of the sigmoid fine scores (eq. 6): `−1/n Σ_i Σ_t [y_t log p_t + (1 − y_t) log(1 − p_t)]`,
/// `p = sigmoid(z)`, which is `softplus(z) − z y`. `logits`, `targets`: `[n, fine]`; returns a scalar.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    // softplus(z) = log(exp(0) + exp(z)) = s + log(exp(−s) + exp(z − s)) with s = max(z, 0).
    let shift = logits.detach().relu()?;
    let sum = (shift.neg()?.exp()? + (logits - &shift)?.exp()?)?;
    let softplus = (shift + sum.log()?)?;
    batch_mean(&(softplus - (logits * targets)?)?)
}

/// Cross-entropy of the softmaxed coarse scores (eq. 7): `−1/n Σ_i log p_(true category of i)`. `logits`: `[n, coarse]`;
/// `categories`: `[n]`, uint32; returns a scalar.
pub fn cross_entropy(logits: &Tensor, categories: &Tensor) -> Result<Tensor> {
    batch_mean(&log_softmax(logits)?.gather(&categories.unsqueeze(1)?, 1)?)?.neg()
}

/// `z − log Σ exp(z)` over the last dimension.
pub(super) fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    candle_nn::ops::log_softmax(logits, D::Minus1)
}

/// Sum over everything, divided by the first dimension.
fn batch_mean(terms: &Tensor) -> Result<Tensor> {
    terms.sum_all()? / terms.dim(0)? as f64
}
