//! The passes of batch norm over memory, one task per channel: a channel of a batch mostly stays in the cache between the
//! sums over it and their use, and its sums depend on no partition.

use rayon::prelude::*;

use super::kernels::{GateInto, GradientSums, InputGradient, Normalize, SquaredDeviations, Sum};
use crate::{activation::Activation, float::Float, parallel::DisjointMut, simd::Isa};

/// Where the channels of a tensor `[n, c, h, w]` are.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    batch: usize,
    count: usize,
    area: usize,
}

impl Channels {
    pub(super) fn new((batch, count, height, width): (usize, usize, usize, usize)) -> Self {
        Channels { batch, count, area: height * width }
    }

    /// The plane of `channel` in each image.
    fn planes(self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..self.batch).map(move |image| {
            let start = (image * self.count + channel) * self.area;
            start..start + self.area
        })
    }

    fn values(self) -> f64 {
        (self.batch * self.area) as f64
    }

    fn len(self) -> usize {
        self.batch * self.count * self.area
    }
}

pub(super) struct Forward<'a, T> {
    pub channels: Channels,
    pub x: &'a [T],
    /// gamma, then beta
    pub affine: &'a [T],
    pub residual: Option<&'a [T]>,
    pub eps: f64,
    pub activation: Activation,
}

impl<T: Float> Forward<'_, T> {
    /// Output, mean and variance; with `fixed`, these are its mean and variance.
    pub(super) fn run(&self, fixed: Option<(Vec<T>, Vec<T>)>) -> (Vec<T>, Vec<T>, Vec<T>) {
        let isa = Isa::detect();
        let mut y = vec![T::ZERO; self.channels.len()];
        let output = DisjointMut::new(&mut y);
        let channel = |channel: usize| {
            let (mean, var) = match &fixed {
                Some((mean, var)) => (mean[channel], var[channel]),
                None => self.moments(isa, channel),
            };
            let inverse_deviation = 1. / (var.to_f64() + self.eps).sqrt();
            for plane in self.channels.planes(channel) {
                isa.run(Normalize {
                    x: &self.x[plane.clone()],
                    residual: self.residual.map(|residual| &residual[plane.clone()]),
                    // SAFETY: each plane belongs to one channel, and each channel to one task.
                    y: unsafe { output.slice(plane) },
                    mean,
                    scale: T::from_f64(self.affine[channel].to_f64() * inverse_deviation),
                    shift: self.affine[self.channels.count + channel],
                    activation: self.activation,
                });
            }
            (mean, var)
        };
        let (mean, var) = (0..self.channels.count).into_par_iter().map(channel).unzip();
        (y, mean, var)
    }

    /// Mean and biased variance of a channel, in two passes: the difference of squares would cancel.
    fn moments(&self, isa: Isa, channel: usize) -> (T, T) {
        let planes = || self.channels.planes(channel).map(|plane| &self.x[plane]);
        let sum: f64 = planes().map(|x| isa.run(Sum { x })).sum();
        let mean = T::from_f64(sum / self.channels.values());
        let squares: f64 = planes().map(|x| isa.run(SquaredDeviations { x, mean })).sum();
        (mean, T::from_f64(squares / self.channels.values()))
    }
}

pub(super) struct Backward<'a, T> {
    pub channels: Channels,
    pub x: &'a [T],
    pub y: &'a [T],
    pub dy: &'a [T],
    pub gamma: &'a [T],
    pub mean: &'a [T],
    pub var: &'a [T],
    pub of_batch: bool,
    pub eps: f64,
    pub activation: Activation,
}

pub(super) struct Gradients<T> {
    pub x: Vec<T>,
    /// of gamma, then of beta
    pub affine: Vec<T>,
    pub residual: Option<Vec<T>>,
}

impl<T: Float> Backward<'_, T> {
    pub(super) fn run(&self, residual: bool) -> Gradients<T> {
        let mut dx = vec![T::ZERO; self.channels.len()];
        let mut dresidual = residual.then(|| vec![T::ZERO; self.channels.len()]);
        let (mut dgamma, dbeta): (Vec<T>, Vec<T>) = {
            let dx = DisjointMut::new(&mut dx);
            let dresidual = dresidual.as_deref_mut().map(DisjointMut::new);
            (0..self.channels.count)
                .into_par_iter()
                .map(|channel| self.channel(channel, &dx, dresidual.as_ref()))
                .unzip()
        };
        dgamma.extend(dbeta);
        Gradients { x: dx, affine: dgamma, residual: dresidual }
    }

    /// The gradients of gamma and beta of a channel; writes its planes of the others.
    fn channel(&self, channel: usize, dx: &DisjointMut<'_, T>, dresidual: Option<&DisjointMut<'_, T>>) -> (T, T) {
        let isa = Isa::detect();
        let mean = self.mean[channel];
        let inverse_deviation = 1. / (self.var[channel].to_f64() + self.eps).sqrt();
        let (mut dbeta, mut product) = (0., 0.);
        for plane in self.channels.planes(channel) {
            let (y, dy) = (&self.y[plane.clone()], &self.dy[plane.clone()]);
            let (dz, gate) = match (dresidual, self.activation) {
                (None, Activation::Identity) => (dy, None),
                (None, Activation::Relu) => (dy, Some(y)),
                (Some(dresidual), activation) => {
                    // SAFETY: each plane belongs to one channel, each channel to one task, and the slice ends with this
                    // turn of the loop.
                    let dz = unsafe { dresidual.slice(plane.clone()) };
                    match activation {
                        Activation::Identity => dz.copy_from_slice(dy),
                        Activation::Relu => isa.run(GateInto { y, dy, dz }),
                    }
                    (&*dz, None)
                }
            };
            let sums = isa.run(GradientSums { x: &self.x[plane], dz, gate, mean });
            dbeta += sums.0;
            product += sums.1;
        }

        let scale = self.gamma[channel].to_f64() * inverse_deviation;
        // What reaches x through the mean and the variance of the batch.
        let (slope, offset) = if self.of_batch {
            let values = self.channels.values();
            let slope = scale * inverse_deviation * inverse_deviation * product / values;
            (slope, scale * dbeta / values)
        } else {
            (0., 0.)
        };
        for plane in self.channels.planes(channel) {
            let y = &self.y[plane.clone()];
            let (dz, gate) = match (dresidual, self.activation) {
                (None, Activation::Identity) => (&self.dy[plane.clone()], None),
                (None, Activation::Relu) => (&self.dy[plane.clone()], Some(y)),
                // SAFETY: as above; only this task uses the plane.
                (Some(dresidual), _) => (&*unsafe { dresidual.slice(plane.clone()) }, None),
            };
            isa.run(InputGradient {
                x: &self.x[plane.clone()],
                dz,
                gate,
                // SAFETY: each plane belongs to one channel, and each channel to one task.
                dx: unsafe { dx.slice(plane) },
                mean,
                scale: T::from_f64(scale),
                slope: T::from_f64(slope),
                offset: T::from_f64(offset),
            });
        }
        (T::from_f64(product * inverse_deviation), T::from_f64(dbeta))
    }
}
