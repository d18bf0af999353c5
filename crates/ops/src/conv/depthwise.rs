//! One filter per channel: too little arithmetic per byte for a product of matrices, so planes are combined directly.
//!
//! A plane is laid out so that each kernel position reads it at an offset: with its zeros around it, and for a stride above 1
//! parted into phases (rows and columns of equal remainder). Then all outputs of a plane are one long sum of shifted copies.

use rayon::prelude::*;

use super::{columns::sized, epilogue::Epilogue, geometry::Geometry};
use crate::{
    float::Float,
    simd::{Isa, Kernel, sum_lanes},
    window::{copy_strided, outputs_inside},
};

/// Outputs whose sums stay in registers.
const BLOCK: usize = 64;
/// Terms summed in the tensor's precision before the sum goes on in double precision.
const TERMS: usize = 4096;

/// Buffers that a thread keeps from plane to plane.
#[derive(Default)]
struct Buffers<T> {
    source: Vec<T>,
    result: Vec<T>,
}

pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], weight: &[T], epilogue: Epilogue<'_, T>) -> Vec<T> {
    let (isa, phases) = (Isa::detect(), Phases::new(g));
    let mut y = vec![T::ZERO; g.output_len()];
    let each = |buffers: &mut Buffers<T>, (plane, (y, x)): (usize, (&mut [T], &[T]))| {
        let channel = plane % g.channels;
        let source = sized(&mut buffers.source, phases.total());
        phases.gather(x, source);
        let weights = &weight[channel * g.taps()..][..g.taps()];
        let taps: Vec<_> = phases.taps().zip(weights.iter().copied()).collect();
        let result = sized(&mut buffers.result, (g.out_height * phases.width).next_multiple_of(BLOCK));
        isa.run(Combine { source, taps: &taps, result });
        for (y, row) in y.chunks_exact_mut(g.out_width).zip(result.chunks_exact(phases.width)) {
            y.copy_from_slice(&row[..g.out_width]);
        }
        epilogue.apply(isa, channel, plane * g.out_area()..(plane + 1) * g.out_area(), y);
    };
    let planes = y.par_chunks_mut(g.out_area()).zip(x.par_chunks(g.area()));
    planes.enumerate().for_each_init(Buffers::default, each);
    y
}

/// Each phase of the input is a sum of shifted copies of the output's gradient.
pub(super) fn backward_data<T: Float>(g: &Geometry, dy: &[T], weight: &[T]) -> Vec<T> {
    let (isa, phases) = (Isa::detect(), Phases::new(g));
    let (below, right) = ((g.kernel_height - 1) / g.stride, (g.kernel_width - 1) / g.stride);
    let pitch = g.out_width + 2 * right;
    let len = (phases.height * pitch).next_multiple_of(BLOCK);
    let mut dx = vec![T::ZERO; g.input_len()];
    let each = |buffers: &mut Buffers<T>, (plane, (dx, dy)): (usize, (&mut [T], &[T]))| {
        let source = sized(&mut buffers.source, len + 2 * below * pitch + 2 * right);
        source.fill(T::ZERO);
        for (row, dy) in source[below * pitch..].chunks_exact_mut(pitch).zip(dy.chunks_exact(g.out_width)) {
            row[right..right + g.out_width].copy_from_slice(dy);
        }
        let result = sized(&mut buffers.result, len);
        let weights = &weight[plane % g.channels * g.taps()..][..g.taps()];
        for (py, px) in phases.all() {
            let rows = (py..g.kernel_height).step_by(g.stride);
            let taps = rows.flat_map(|ky| (px..g.kernel_width).step_by(g.stride).map(move |kx| (ky, kx)));
            let taps: Vec<_> = taps
                .map(|(ky, kx)| {
                    let offset = (below - ky / g.stride) * pitch + right - kx / g.stride;
                    (offset, weights[ky * g.kernel_width + kx])
                })
                .collect();
            isa.run(Combine { source, taps: &taps, result });
            phases.scatter((py, px), result, pitch, dx);
        }
    };
    let planes = dx.par_chunks_mut(g.area()).zip(dy.par_chunks(g.out_area()));
    planes.enumerate().for_each_init(Buffers::default, each);
    dx
}

pub(super) fn backward_weight<T: Float>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let (isa, phases) = (Isa::detect(), Phases::new(g));
    let offsets: Vec<usize> = phases.taps().collect();
    let mut dweight = vec![T::ZERO; g.weight_len()];
    dweight.par_chunks_mut(g.taps()).enumerate().for_each_init(Buffers::default, |buffers, (channel, dweight)| {
        let mut sums = vec![0.; g.taps()];
        for image in 0..g.batch {
            let plane = image * g.channels + channel;
            let source = sized(&mut buffers.source, phases.total());
            phases.gather(&x[plane * g.area()..][..g.area()], source);
            let spread = sized(&mut buffers.result, g.out_height * phases.width);
            let dy = &dy[plane * g.out_area()..][..g.out_area()];
            for (row, dy) in spread.chunks_exact_mut(phases.width).zip(dy.chunks_exact(g.out_width)) {
                row[..g.out_width].copy_from_slice(dy);
                row[g.out_width..].fill(T::ZERO);
            }
            isa.run(Correlate { source, dy: spread, offsets: &offsets, sums: &mut sums });
        }
        for (dweight, sum) in dweight.iter_mut().zip(sums) {
            *dweight = T::from_f64(sum);
        }
    });
    dweight
}

/// How a plane of the input is laid out: each phase is a plane of its own.
struct Phases<'a> {
    g: &'a Geometry,
    /// Rows of a phase that outputs read.
    height: usize,
    /// Columns of a phase that outputs read.
    width: usize,
    /// Elements of a phase, with room for the last block's reads.
    len: usize,
}

impl<'a> Phases<'a> {
    fn new(g: &'a Geometry) -> Self {
        let (below, right) = ((g.kernel_height - 1) / g.stride, (g.kernel_width - 1) / g.stride);
        let (height, width) = (g.out_height + below, g.out_width + right);
        let len = (g.out_height * width).next_multiple_of(BLOCK) + below * width + right;
        Phases { g, height, width, len }
    }

    fn total(&self) -> usize {
        self.g.stride * self.g.stride * self.len
    }

    /// Remainders of rows and columns.
    fn all(&self) -> impl Iterator<Item = (usize, usize)> {
        let stride = self.g.stride;
        (0..stride).flat_map(move |py| (0..stride).map(move |px| (py, px)))
    }

    /// For each kernel position, where it reads for the first output.
    fn taps(&self) -> impl Iterator<Item = usize> {
        let Geometry { kernel_height, kernel_width, stride, .. } = *self.g;
        let offset = move |ky: usize, kx: usize| {
            let phase = ky % stride * stride + kx % stride;
            phase * self.len + ky / stride * self.width + kx / stride
        };
        (0..kernel_height).flat_map(move |ky| (0..kernel_width).map(move |kx| offset(ky, kx)))
    }

    /// The columns of phase `px` that are inside the image, and the first of them there.
    fn columns(&self, px: usize) -> (std::ops::Range<usize>, usize) {
        outputs_inside(px, self.g.stride, self.g.padding.left, self.g.width, self.width)
    }

    /// Fills the phases from a plane.
    fn gather<T: Float>(&self, x: &[T], phases: &mut [T]) {
        for ((py, px), phase) in self.all().zip(phases.chunks_exact_mut(self.len)) {
            let (inside, first) = self.columns(px);
            for (row, target) in phase.chunks_exact_mut(self.width).take(self.height).enumerate() {
                let Some(row) = self.g.row_inside(row, py).filter(|_| !inside.is_empty()) else {
                    target.fill(T::ZERO);
                    continue;
                };
                target[..inside.start].fill(T::ZERO);
                target[inside.end..].fill(T::ZERO);
                copy_strided(&x[row * self.g.width + first..], self.g.stride, &mut target[inside.clone()]);
            }
            // Read for outputs that do not exist, some of them times zero.
            phase[self.height * self.width..].fill(T::ZERO);
        }
    }

    /// Writes a phase, whose rows are `pitch` apart, to its places in a plane.
    fn scatter<T: Float>(&self, (py, px): (usize, usize), phase: &[T], pitch: usize, x: &mut [T]) {
        let (inside, first) = self.columns(px);
        for (row, source) in phase.chunks_exact(pitch).take(self.height).enumerate() {
            if let Some(row) = self.g.row_inside(row, py).filter(|_| !inside.is_empty()) {
                let target = x[row * self.g.width + first..(row + 1) * self.g.width].iter_mut();
                for (target, &value) in target.step_by(self.g.stride).zip(&source[inside.clone()]) {
                    *target = value;
                }
            }
        }
    }
}

/// `result[i] = sum over taps of weight * source[i + offset]`
struct Combine<'a, T> {
    source: &'a [T],
    taps: &'a [(usize, T)],
    /// Whole blocks.
    result: &'a mut [T],
}

impl<T: Float> Kernel for Combine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.result.as_chunks_mut::<BLOCK>();
        for (index, block) in blocks.iter_mut().enumerate() {
            let mut sums = [T::ZERO; BLOCK];
            for &(offset, weight) in self.taps {
                if let Some(values) = self.source[index * BLOCK + offset..].first_chunk::<BLOCK>() {
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += weight * value;
                    }
                }
            }
            *block = sums;
        }
    }
}

/// `sums += sum over i of dy[i] * source[i + offset]`, in double precision from [`TERMS`] to [`TERMS`].
struct Correlate<'a, T> {
    source: &'a [T],
    dy: &'a [T],
    offsets: &'a [usize],
    sums: &'a mut [f64],
}

impl<T: Float> Kernel for Correlate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (block, dy) in self.dy.chunks(TERMS).enumerate() {
            let at = |offset: usize| &self.source[block * TERMS + offset..][..dy.len()];
            let (fours, rest) = self.offsets.as_chunks::<4>();
            let (sums_of_fours, sums) = self.sums.split_at_mut(4 * fours.len());
            // Several kernel positions at once, so that each value of `dy` is read less often.
            for (&[a, b, c, d], sums) in fours.iter().zip(sums_of_fours.chunks_exact_mut(4)) {
                let slices = [dy, at(a), at(b), at(c), at(d)];
                let parts: [T; 4] = sum_lanes(slices, |[dy, a, b, c, d]| [dy * a, dy * b, dy * c, dy * d]);
                for (sum, part) in sums.iter_mut().zip(parts) {
                    *sum += part.to_f64();
                }
            }
            for (&offset, sum) in rest.iter().zip(sums) {
                let [part]: [T; 1] = sum_lanes([dy, at(offset)], |[dy, x]| [dy * x]);
                *sum += part.to_f64();
            }
        }
    }
}
