//! Convolution as products of matrices.
//!
//! With at least as many tiles as threads, tiles run in parallel and each product in one thread; with fewer (small maps, small
//! batches) the tiles run one after the other and each product in all threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{
    columns::{Tile, sized},
    epilogue::Epilogue,
    geometry::Geometry,
};
use crate::{
    buffer::filled,
    float::Float,
    gemm::{Mat, MatMut, Parallelism, Store, multiply},
    parallel::DisjointMut,
    simd::Isa,
};

/// Buffers that a thread keeps from tile to tile.
#[derive(Default)]
struct Scratch<T> {
    inputs: Vec<T>,
    outputs: Vec<T>,
}

/// Runs `each` on every tile. `each` must touch only its own tile's part of any output.
fn for_each_tile<T: Float>(tiles: &[Tile], each: impl Fn(&mut Scratch<T>, Tile, Parallelism) + Sync) {
    if tiles.len() >= rayon::current_num_threads() {
        let serial = |scratch: &mut Scratch<T>, &tile: &Tile| each(scratch, tile, Parallelism::None);
        tiles.par_iter().for_each_init(Scratch::default, serial);
    } else {
        let mut scratch = Scratch::default();
        for &tile in tiles {
            each(&mut scratch, tile, Parallelism::Rayon(0));
        }
    }
}

fn group_weights<'a, T>(g: &Geometry, weight: &'a [T], group: usize) -> Mat<'a, T> {
    let (rows, depth) = (g.group_filters(), g.depth());
    Mat::new(&weight[group * rows * depth..], rows, depth, depth)
}

/// `y = epilogue(weight · columns(x))`
pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], weight: &[T], epilogue: Epilogue<'_, T>) -> Vec<T> {
    // SAFETY: the tiles cover the output, and each writes the outputs of all groups.
    unsafe { filled(g.output_len(), |y| forward_into(g, x, weight, epilogue, &DisjointMut::new(y))) }
}

fn forward_into<T: Float>(
    g: &Geometry,
    x: &[T],
    weight: &[T],
    epilogue: Epilogue<'_, T>,
    output: &DisjointMut<'_, MaybeUninit<T>>,
) {
    let isa = Isa::detect();
    let filters = g.group_filters();
    let each = |scratch: &mut Scratch<T>, tile: Tile, parallelism: Parallelism| {
        let columns = tile.columns(g);
        for group in 0..g.groups {
            let inputs = tile.gather_inputs(g, x, group, &mut scratch.inputs);
            let weights = group_weights(g, weight, group);
            if let Some(start) = tile.output_in_place(g, group) {
                // SAFETY: tiles do not overlap, nor do the groups of a tile.
                let mut target = unsafe { output.matrix(start, filters, columns, g.out_area()) };
                multiply(&mut target, Store::Replace, weights, inputs, parallelism);
                for row in 0..filters {
                    let at = start + row * g.out_area();
                    epilogue.apply(isa, group * filters + row, at..at + columns, target.row(row));
                }
                continue;
            }
            let outputs = sized(&mut scratch.outputs, filters * columns);
            multiply(&mut MatMut::new(outputs, filters, columns), Store::Replace, weights, inputs, parallelism);
            for (filter, values) in (group * filters..).zip(outputs.chunks_exact_mut(columns)) {
                for (outputs, columns) in tile.outputs(g, filter) {
                    let values = &mut values[columns];
                    epilogue.apply(isa, filter, outputs.clone(), values);
                    // SAFETY: tiles do not overlap, nor do their images and filters.
                    let target = unsafe { output.slice(outputs) };
                    target.write_copy_of_slice(values);
                }
            }
        }
    };
    for_each_tile(&Tile::plan(g, rayon::current_num_threads()), each);
}

pub(super) fn backward_data<T: Float>(g: &Geometry, dy: &[T], weight: &[T]) -> Vec<T> {
    match g.backward_data() {
        Some(transposed) => forward(&transposed, dy, &flipped(g, weight), Epilogue::NONE),
        None => scattered(g, dy, weight),
    }
}

/// The weights of [`Geometry::backward_data`]: `[c, o / groups, kh, kw]`, each kernel turned by half a turn.
fn flipped<T: Float>(g: &Geometry, weight: &[T]) -> Vec<T> {
    /// Rows per task: neighbours in the source, so that its cache lines are used in full.
    const ROWS: usize = 16;
    let (channels, filters, taps) = (g.group_channels(), g.group_filters(), g.taps());
    let mut flipped = vec![T::ZERO; g.weight_len()];
    flipped.par_chunks_mut(ROWS * filters * taps).enumerate().for_each(|(block, target)| {
        for filter in 0..filters {
            for (row, target) in (block * ROWS..).zip(target.chunks_exact_mut(filters * taps)) {
                let (group, channel) = (row / channels, row % channels);
                let kernel = ((group * filters + filter) * channels + channel) * taps;
                let target = &mut target[filter * taps..][..taps];
                for (target, &value) in target.iter_mut().zip(weight[kernel..kernel + taps].iter().rev()) {
                    *target = value;
                }
            }
        }
    });
    flipped
}

/// `columns(dx) = weight^T · dy`, with what several outputs contribute to an input added up. For any stride and padding.
fn scattered<T: Float>(g: &Geometry, dy: &[T], weight: &[T]) -> Vec<T> {
    /// Columns worth a product.
    const COLUMNS: usize = 384;
    let images = (COLUMNS / g.out_area()).clamp(1, g.batch.div_ceil(rayon::current_num_threads()));
    let mut dx = vec![T::ZERO; g.input_len()];
    let each = |scratch: &mut Scratch<T>, tile: Tile, dx: &mut [T], parallelism: Parallelism| {
        let (depth, columns) = (g.depth(), tile.columns(g));
        for group in 0..g.groups {
            let dy = tile.gather_outputs(g, dy, group, &mut scratch.outputs);
            let product = sized(&mut scratch.inputs, depth * columns);
            let weights = group_weights(g, weight, group).transposed();
            multiply(&mut MatMut::new(product, depth, columns), Store::Replace, weights, dy, parallelism);
            tile.scatter_inputs(g, product, group, dx);
        }
    };
    let chunk = images * g.channels * g.area();
    let tile = |index: usize| Tile::whole(g, index * images..g.batch.min((index + 1) * images));
    if g.batch.div_ceil(images) >= rayon::current_num_threads() {
        dx.par_chunks_mut(chunk).enumerate().for_each_init(Scratch::default, |scratch, (index, dx)| {
            each(scratch, tile(index), dx, Parallelism::None);
        });
    } else {
        let mut scratch = Scratch::default();
        for (index, dx) in dx.chunks_mut(chunk).enumerate() {
            each(&mut scratch, tile(index), dx, Parallelism::Rayon(0));
        }
    }
    dx
}

/// `dweight = dy · columns(x)^T`, summed over tiles. Each thread's share of the tiles has a sum of its own, and these are added
/// in order; but where a sum is larger than what it is made from, the threads share each product instead.
pub(super) fn backward_weight<T: Float>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let threads = rayon::current_num_threads();
    let one_sum = g.group_filters() >= g.batch * g.out_area();
    let tiles = Tile::plan(g, if one_sum { 1 } else { threads });
    let sum_of = |tiles: &[Tile], parallelism: Parallelism| {
        let (filters, depth) = (g.group_filters(), g.depth());
        let (mut sum, mut scratch) = (vec![T::ZERO; g.weight_len()], Scratch::default());
        for (index, tile) in tiles.iter().enumerate() {
            let store = if index == 0 { Store::Replace } else { Store::Add };
            for (group, sum) in sum.chunks_exact_mut(filters * depth).enumerate() {
                let inputs = tile.gather_inputs(g, x, group, &mut scratch.inputs);
                let outputs = tile.gather_outputs(g, dy, group, &mut scratch.outputs);
                multiply(&mut MatMut::new(sum, filters, depth), store, outputs, inputs.transposed(), parallelism);
            }
        }
        sum
    };
    if one_sum || tiles.len() < threads {
        return sum_of(&tiles, Parallelism::Rayon(0));
    }
    let shares = tiles.par_chunks(tiles.len().div_ceil(threads));
    let mut sums = shares.map(|tiles| sum_of(tiles, Parallelism::None)).collect::<Vec<_>>();
    let (total, rest) = sums.split_first_mut().expect("the output has at least one tile");
    for sum in rest {
        total.par_chunks_mut(1 << 14).zip(sum.par_chunks(1 << 14)).for_each(|(total, sum)| {
            for (total, &value) in total.iter_mut().zip(sum) {
                *total += value;
            }
        });
    }
    std::mem::take(total)
}
