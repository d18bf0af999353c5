//! The passes of batch norm over memory, one task per channel: a channel of a batch mostly stays in the cache between the
//! sums over it and their use, and its sums depend on no partition.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::kernels::{Formula, GradientSums, InputGradient, InputGradientBeside, Normalize, SquaredDeviations, Sum};
use crate::{
    activation::{Activation, Close, Gate},
    buffer::filled,
    float::Float,
    parallel::DisjointMut,
    simd::Isa,
};

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
    fn planes(self, channel: usize) -> impl Iterator<Item = Range<usize>> {
        (0..self.batch).map(move |image| {
            let start = (image * self.count + channel) * self.area;
            start..start + self.area
        })
    }

    pub(super) fn count(self) -> usize {
        self.count
    }

    /// Mean and biased variance of each channel.
    pub(super) fn moments<T: Float>(self, x: &[T]) -> (Vec<T>, Vec<T>) {
        let isa = Isa::detect();
        (0..self.count).into_par_iter().map(|channel| self.moments_of(isa, x, channel)).unzip()
    }

    /// Mean and biased variance of a channel, in two passes: the difference of squares would cancel.
    fn moments_of<T: Float>(self, isa: Isa, x: &[T], channel: usize) -> (T, T) {
        let planes = || self.planes(channel).map(|plane| &x[plane]);
        let sum: f64 = planes().map(|x| isa.run(Sum { x })).sum();
        let mean = T::from_f64(sum / self.values());
        let squares: f64 = planes().map(|x| isa.run(SquaredDeviations { x, mean })).sum();
        (mean, T::from_f64(squares / self.values()))
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
    pub gamma: &'a [T],
    pub beta: &'a [T],
    pub residual: Option<&'a [T]>,
    pub eps: f64,
    pub activation: Activation,
}

impl<T: Float> Forward<'_, T> {
    /// Output, mean and variance; with `fixed`, these are its mean and variance.
    pub(super) fn run(&self, fixed: Option<(Vec<T>, Vec<T>)>) -> (Vec<T>, Vec<T>, Vec<T>) {
        let isa = Isa::detect();
        let channel = |channel: usize, output: &DisjointMut<'_, MaybeUninit<T>>| {
            let (mean, var) = match &fixed {
                Some((mean, var)) => (mean[channel], var[channel]),
                None => self.channels.moments_of(isa, self.x, channel),
            };
            let inverse_deviation = 1. / (var.to_f64() + self.eps).sqrt();
            for plane in self.channels.planes(channel) {
                isa.run(Normalize {
                    x: &self.x[plane.clone()],
                    residual: self.residual.map(|residual| &residual[plane.clone()]),
                    // SAFETY: each plane belongs to one channel, and each channel to one task.
                    y: unsafe { output.slice(plane) },
                    mean,
                    scale: T::from_f64(self.gamma[channel].to_f64() * inverse_deviation),
                    shift: self.beta[channel],
                    activation: self.activation,
                });
            }
            (mean, var)
        };
        let mut moments = (Vec::new(), Vec::new());
        let channels = |y: &mut [MaybeUninit<T>]| {
            let output = DisjointMut::new(y);
            moments = (0..self.channels.count).into_par_iter().map(|index| channel(index, &output)).unzip();
        };
        // SAFETY: the planes of all channels cover the buffer, and the kernel writes all of a plane.
        let y = unsafe { filled(self.channels.len(), channels) };
        (y, moments.0, moments.1)
    }
}

pub(super) struct Backward<'a, T> {
    pub channels: Channels,
    pub x: &'a [T],
    pub y: &'a [T],
    pub gamma: &'a [T],
    pub mean: &'a [T],
    pub var: &'a [T],
    pub of_batch: bool,
    pub eps: f64,
    pub activation: Activation,
}

impl<T: Float> Backward<'_, T> {
    /// `dy` becomes the gradient of `x`. Returns those of gamma and beta.
    pub(super) fn in_place(&self, dy: &mut [T]) -> (Vec<T>, Vec<T>) {
        let isa = Isa::detect();
        let dy = DisjointMut::new(dy);
        self.parameters(|channel| {
            // SAFETY: each plane belongs to one channel, each channel to one task, and the slice ends with its use.
            let planes = || self.channels.planes(channel).map(|plane| (plane.clone(), unsafe { dy.slice(plane) }));
            let mean = self.mean[channel];
            let sums = planes().map(|(plane, dy)| {
                isa.run(GradientSums { x: &self.x[plane.clone()], dz: dy, gate: self.gate(plane), mean })
            });
            let (formula, gradients) = self.formula(channel, add_pairs(sums));
            for (plane, dy) in planes() {
                isa.run(InputGradient { x: &self.x[plane.clone()], dz: dy, gate: self.gate(plane), formula });
            }
            gradients
        })
    }

    /// `dy` becomes the gradient before the activation. Returns that of `x`, then those of gamma and beta.
    pub(super) fn beside(&self, dy: &mut [T]) -> (Vec<T>, (Vec<T>, Vec<T>)) {
        let isa = Isa::detect();
        let dy = DisjointMut::new(dy);
        let mut parameters = (Vec::new(), Vec::new());
        let channels = |dx: &mut [MaybeUninit<T>]| {
            let dx = DisjointMut::new(dx);
            parameters = self.parameters(|channel| {
                // SAFETY: each plane belongs to one channel, each channel to one task, and the slice ends with its use.
                let planes = || self.channels.planes(channel).map(|plane| (plane.clone(), unsafe { dy.slice(plane) }));
                let mean = self.mean[channel];
                let sums = planes().map(|(plane, dy)| {
                    if let Some(gate) = self.gate(plane.clone()) {
                        isa.run(Close { gate, dy });
                    }
                    isa.run(GradientSums { x: &self.x[plane], dz: dy, gate: None, mean })
                });
                let (formula, gradients) = self.formula(channel, add_pairs(sums));
                for (plane, dz) in planes() {
                    // SAFETY: as above.
                    let dx = unsafe { dx.slice(plane.clone()) };
                    isa.run(InputGradientBeside { x: &self.x[plane], dz, dx, formula });
                }
                gradients
            });
        };
        // SAFETY: the planes of all channels cover the buffer, and the kernel writes all of a plane.
        let dx = unsafe { filled(self.channels.len(), channels) };
        (dx, parameters)
    }

    fn parameters(&self, channel: impl Fn(usize) -> (T, T) + Sync + Send) -> (Vec<T>, Vec<T>) {
        (0..self.channels.count).into_par_iter().map(channel).unzip()
    }

    /// The activation still to be undone.
    fn gate(&self, plane: Range<usize>) -> Option<Gate<'_, T>> {
        Gate::new(self.activation, &self.y[plane])
    }

    /// How `dx` follows from `dz`, and the gradients of gamma and beta. `sum`: of `dz`; `product`: of `dz (x - mean)`.
    fn formula(&self, channel: usize, (sum, product): (f64, f64)) -> (Formula<T>, (T, T)) {
        let inverse_deviation = 1. / (self.var[channel].to_f64() + self.eps).sqrt();
        let scale = self.gamma[channel].to_f64() * inverse_deviation;
        // What reaches x through the mean and the variance of the batch.
        let (slope, offset) = if self.of_batch {
            let values = self.channels.values();
            (scale * inverse_deviation * inverse_deviation * product / values, scale * sum / values)
        } else {
            (0., 0.)
        };
        let [scale, slope, offset] = [scale, slope, offset].map(T::from_f64);
        let formula = Formula { mean: self.mean[channel], scale, slope, offset };
        (formula, (T::from_f64(product * inverse_deviation), T::from_f64(sum)))
    }
}

fn add_pairs(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    pairs.fold((0., 0.), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1))
}
