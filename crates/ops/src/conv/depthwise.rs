//! One filter per channel: too little arithmetic per byte for a product of matrices, so rows are combined directly.

use rayon::prelude::*;

use super::{epilogue::Epilogue, geometry::Geometry};
use crate::{
    float::Float,
    simd::{Isa, Kernel, sum_lanes},
};

pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], weight: &[T], epilogue: Epilogue<'_, T>) -> Vec<T> {
    let isa = Isa::detect();
    let mut y = vec![T::ZERO; g.output_len()];
    y.par_chunks_mut(g.out_area()).zip(x.par_chunks(g.area())).enumerate().for_each(|(plane, (y, x))| {
        let channel = plane % g.channels;
        isa.run(AddProducts { g, x, weight: &weight[channel * g.taps()..][..g.taps()], y });
        epilogue.apply(isa, channel, plane * g.out_area()..(plane + 1) * g.out_area(), y);
    });
    y
}

pub(super) fn backward_data<T: Float>(g: &Geometry, dy: &[T], weight: &[T]) -> Vec<T> {
    let isa = Isa::detect();
    let mut dx = vec![T::ZERO; g.input_len()];
    dx.par_chunks_mut(g.area()).zip(dy.par_chunks(g.out_area())).enumerate().for_each(|(plane, (dx, dy))| {
        let channel = plane % g.channels;
        isa.run(ScatterProducts { g, dy, weight: &weight[channel * g.taps()..][..g.taps()], dx });
    });
    dx
}

pub(super) fn backward_weight<T: Float>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let isa = Isa::detect();
    let mut dweight = vec![T::ZERO; g.weight_len()];
    dweight.par_chunks_mut(g.taps()).enumerate().for_each(|(channel, dweight)| {
        let mut sums = vec![0.; g.taps()];
        for image in 0..g.batch {
            let plane = image * g.channels + channel;
            let x = &x[plane * g.area()..][..g.area()];
            let dy = &dy[plane * g.out_area()..][..g.out_area()];
            isa.run(Correlate { g, x, dy, sums: &mut sums });
        }
        for (dweight, sum) in dweight.iter_mut().zip(sums) {
            *dweight = T::from_f64(sum);
        }
    });
    dweight
}

/// Calls `each(tap, y, x)` for each kernel position and output row that meet inside the image, with the first output and the
/// first input of the row's run and its length.
#[inline(always)]
fn for_each_run(g: &Geometry, mut each: impl FnMut(usize, usize, usize, usize)) {
    for y in 0..g.out_height {
        for ky in 0..g.kernel_height {
            let Some(row) = g.row_inside(y, ky) else { continue };
            for kx in 0..g.kernel_width {
                let (inside, first) = g.columns_inside(kx);
                if !inside.is_empty() {
                    let tap = ky * g.kernel_width + kx;
                    each(tap, y * g.out_width + inside.start, row * g.width + first, inside.len());
                }
            }
        }
    }
}

/// `y += weight * x`
struct AddProducts<'a, T> {
    g: &'a Geometry,
    x: &'a [T],
    weight: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> Kernel for AddProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for_each_run(self.g, |tap, output, input, len| {
            let weight = self.weight[tap];
            let (y, x) = (&mut self.y[output..][..len], &self.x[input..]);
            if self.g.stride == 1 {
                for (y, &x) in y.iter_mut().zip(&x[..len]) {
                    *y += weight * x;
                }
            } else {
                for (y, &x) in y.iter_mut().zip(x.iter().step_by(self.g.stride)) {
                    *y += weight * x;
                }
            }
        });
    }
}

/// `dx += weight * dy`
struct ScatterProducts<'a, T> {
    g: &'a Geometry,
    dy: &'a [T],
    weight: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for ScatterProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for_each_run(self.g, |tap, output, input, len| {
            let weight = self.weight[tap];
            let (dy, dx) = (&self.dy[output..][..len], &mut self.dx[input..]);
            if self.g.stride == 1 {
                for (dx, &dy) in dx[..len].iter_mut().zip(dy) {
                    *dx += weight * dy;
                }
            } else {
                for (dx, &dy) in dx.iter_mut().step_by(self.g.stride).zip(dy) {
                    *dx += weight * dy;
                }
            }
        });
    }
}

/// `sums += dy * x`, in double precision from row to row.
struct Correlate<'a, T> {
    g: &'a Geometry,
    x: &'a [T],
    dy: &'a [T],
    sums: &'a mut [f64],
}

impl<T: Float> Kernel for Correlate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for_each_run(self.g, |tap, output, input, len| {
            let (dy, x) = (&self.dy[output..][..len], &self.x[input..]);
            let sum = if self.g.stride == 1 {
                sum_lanes([dy, &x[..len]], |[dy, x]| [dy * x])[0]
            } else {
                let terms = dy.iter().zip(x.iter().step_by(self.g.stride));
                terms.fold(T::ZERO, |sum, (&dy, &x)| sum + dy * x)
            };
            self.sums[tap] += sum.to_f64();
        });
    }
}
