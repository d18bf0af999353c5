//! Convolution 3×3 of stride 1 by F(4×4, 3×3): a tile of 4×4 outputs costs 36 products instead of 144 (Lavin and Gray 2016).
//!
//! Tiles of inputs and kernels are transformed to 36 points; at each point the convolution is a product of matrices, tiles by
//! channels by filters. Channels are neighbours in memory throughout, so each map is a few vector operations.
//! Blocks of tiles go through three parallel stages (inputs, products, outputs). No sum depends on how they are shared out, so
//! the result has the same bits for any number of threads.

use std::{mem::MaybeUninit, ops::Range};

use rayon::prelude::*;

use super::{epilogue::Epilogue, geometry::Geometry};
use crate::{
    buffer::filled,
    float::Float,
    parallel::DisjointMut,
    product::{PANEL, Product, Rows},
    scratch::Scratch,
    simd::{Isa, Kernel},
};

mod bands;
mod transform;

use bands::Images;
use transform::{IN, Input, LANES, Lanes, Map, OUT, Output, OutputGradient, POINTS, Weight, WeightGradient, both};

/// Taps of a kernel.
const TAPS: usize = 9;

/// Whether this way is the faster one: for enough channels to fill vectors, and maps that fill most of a tile.
pub(super) fn applies(g: &Geometry) -> bool {
    let outputs = g.out_height.min(g.out_width);
    let shape = (g.kernel_height, g.kernel_width, g.stride, g.groups) == (3, 3, 1, 1);
    shape && g.channels >= LANES && g.filters >= LANES && outputs > 2 && g.batch * g.out_area() >= 32
}

/// The tiles of a convolution, and the layout of their transforms.
struct Plan<'a> {
    g: &'a Geometry,
    /// Tiles in a row.
    columns: usize,
    /// Rows of tiles in an image.
    rows: usize,
    /// Channels, rounded up to lanes.
    channels: usize,
    /// Panels of filters.
    panels: usize,
}

impl<'a> Plan<'a> {
    fn new(g: &'a Geometry) -> Self {
        Plan {
            g,
            columns: g.out_width.div_ceil(OUT),
            rows: g.out_height.div_ceil(OUT),
            channels: g.channels.next_multiple_of(LANES),
            panels: g.filters.div_ceil(PANEL),
        }
    }

    /// Blocks of rows of tiles, counted through the images.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        /// Elements of a block's transforms that stay in the last level of the cache, roughly.
        const ELEMENTS: usize = 3 << 19;
        /// Tiles below which the transformed kernels are read too often.
        const TILES: usize = 64;
        let (all, channels) = (self.g.batch * self.rows, self.channels + self.panels * PANEL);
        let most = (ELEMENTS / (POINTS * channels)).max(TILES).div_ceil(self.columns);
        let rows = all.div_ceil(all.div_ceil(most));
        (0..all).step_by(rows).map(move |start| start..all.min(start + rows))
    }

    fn tiles(&self, block: &Range<usize>) -> usize {
        block.len() * self.columns
    }

    /// From one tile to the next in the inputs' transform. Not a power of two, which would crowd a few sets of the cache.
    fn input_stride(&self) -> usize {
        self.channels + LANES
    }

    /// From one tile to the next in the outputs' transform.
    fn output_stride(&self) -> usize {
        self.panels * PANEL + LANES
    }

    fn inputs<'x, T>(&self, x: &'x [T]) -> Images<'x, T> {
        let Geometry { channels, height, width, padding, .. } = *self.g;
        Images { values: x, channels, height, width, top: padding.top, left: padding.left }
    }

    fn outputs<'x, T>(&self, y: &'x [T]) -> Images<'x, T> {
        let Geometry { filters, out_height, out_width, .. } = *self.g;
        Images { values: y, channels: filters, height: out_height, width: out_width, top: 0, left: 0 }
    }

    /// Calls `put(point, tile, first channel, lanes)` for the transform of each tile of `images` in a block; tiles overlap
    /// by `FROM - 4` pixels.
    fn transform<T: Float, M: Map<T, FROM, IN>, const FROM: usize>(
        &self,
        images: Images<'_, T>,
        block: &Range<usize>,
        put: impl Fn(usize, usize, usize, &Lanes<T>) + Sync,
    ) {
        let isa = Isa::detect();
        let columns = self.columns * OUT + (FROM - OUT);
        let units = images.channels.div_ceil(LANES) * block.len();
        let band = || Scratch::<T>::take(FROM * columns * LANES);
        (0..units).into_par_iter().for_each_init(band, |band, unit| {
            let (group, index) = (unit / block.len(), unit % block.len());
            let (image, row) = ((block.start + index) / self.rows, (block.start + index) % self.rows);
            let (band, _) = band.as_chunks_mut::<LANES>();
            let (first_channel, first_tile) = (group * LANES, index * self.columns);
            isa.run(TransformRow::<T, M, _, FROM> {
                images,
                place: (image, first_channel, row),
                columns,
                band,
                put: |point: usize, tile: usize, lanes: &Lanes<T>| put(point, first_tile + tile, first_channel, lanes),
                map: std::marker::PhantomData,
            });
        });
    }
}

/// The transforms of one row of tiles, sixteen channels of it.
struct TransformRow<'a, T, M, P, const FROM: usize> {
    images: Images<'a, T>,
    /// Image, first channel, row of tiles.
    place: (usize, usize, usize),
    columns: usize,
    band: &'a mut [Lanes<T>],
    put: P,
    map: std::marker::PhantomData<M>,
}

impl<T: Float, M: Map<T, FROM, IN>, P: Fn(usize, usize, &Lanes<T>), const FROM: usize> Kernel
    for TransformRow<'_, T, M, P, FROM>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (image, first_channel, row) = self.place;
        self.images.read(image, first_channel, row * OUT, self.columns, self.band);
        for tile in 0..(self.columns - (FROM - OUT)) / OUT {
            let band = &*self.band;
            let pixel = |row: usize, column: usize| &band[row * self.columns + tile * OUT + column];
            both::<T, M, FROM, IN>(pixel, |point, lanes| (self.put)(point, tile, lanes));
        }
    }
}

/// Kernels at the 36 points, `[point][panel of filters][channel][filter of the panel]`: four times as large as the weights,
/// which are the `[o, c, 3, 3]` of `g`, or, `turned`, the `[c, o, 3, 3]` of the convolution whose gradient with respect to its
/// input `g` is.
pub(super) fn transformed_weight<T: Float>(g: &Geometry, weight: &[T], turned: bool) -> Scratch<T> {
    let (isa, plan) = (Isa::detect(), Plan::new(g));
    let mut transformed = Scratch::take(POINTS * plan.panels * plan.channels * PANEL);
    let target = DisjointMut::new(&mut transformed);
    (0..plan.panels * plan.channels).into_par_iter().for_each(|unit| {
        let (panel, channel) = (unit / plan.channels, unit % plan.channels);
        isa.run(TransformKernels { plan: &plan, weight, turned, panel, channel, target: &target });
    });
    transformed
}

/// The kernels of one channel and one panel of filters.
struct TransformKernels<'a, T> {
    plan: &'a Plan<'a>,
    weight: &'a [T],
    turned: bool,
    panel: usize,
    channel: usize,
    target: &'a DisjointMut<'a, T>,
}

impl<T: Float> Kernel for TransformKernels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Geometry { channels, filters, .. } = *self.plan.g;
        for half in (0..PANEL).step_by(LANES) {
            let mut taps = [[T::ZERO; LANES]; TAPS];
            if self.channel < channels {
                let first = self.panel * PANEL + half;
                for (lane, filter) in (first..filters.min(first + LANES)).enumerate() {
                    let (outer, inner, count) =
                        if self.turned { (self.channel, filter, filters) } else { (filter, self.channel, channels) };
                    let kernel = &self.weight[(outer * count + inner) * TAPS..][..TAPS];
                    for (tap, lanes) in taps.iter_mut().enumerate() {
                        lanes[lane] = kernel[if self.turned { TAPS - 1 - tap } else { tap }];
                    }
                }
            }
            both::<T, Weight, 3, IN>(
                |row, column| &taps[row * 3 + column],
                |point, lanes| {
                    let row = (point * self.plan.panels + self.panel) * self.plan.channels + self.channel;
                    let start = row * PANEL + half;
                    // SAFETY: each panel and channel belongs to one task, and the slice ends with the statement.
                    *unsafe { self.target.array(start) } = *lanes;
                },
            );
        }
    }
}

/// `y = epilogue(conv(x))`; `weight` is a [`transformed_weight`].
pub(super) fn forward<T: Float>(g: &Geometry, x: &[T], weight: &[T], epilogue: Epilogue<'_, T>) -> Vec<T> {
    let plan = Plan::new(g);
    let all = |y: &mut [MaybeUninit<T>]| {
        let y = DisjointMut::new(y);
        for block in plan.blocks() {
            forward_block(&plan, x, weight, epilogue, &block, &y);
        }
    };
    // SAFETY: the blocks cover all tiles, and each writes all pixels of its tiles and of every filter.
    unsafe { filled(g.output_len(), all) }
}

fn forward_block<T: Float>(
    plan: &Plan<'_>,
    x: &[T],
    weight: &[T],
    epilogue: Epilogue<'_, T>,
    block: &Range<usize>,
    y: &DisjointMut<'_, MaybeUninit<T>>,
) {
    let isa = Isa::detect();
    let tiles = plan.tiles(block);
    let inputs = transformed_inputs(plan, x, block);

    let mut products = Scratch::take(POINTS * tiles * plan.output_stride());
    let target = DisjointMut::new(&mut products);
    (0..POINTS * plan.panels).into_par_iter().for_each(|unit| {
        let (point, panel) = (unit / plan.panels, unit % plan.panels);
        let product = Product {
            a: &inputs[point * tiles * plan.input_stride()..],
            a_row: plan.input_stride(),
            a_step: 1,
            b: &weight[unit * plan.channels * PANEL..],
            rows: tiles,
            depth: plan.channels,
        };
        let stride = plan.output_stride();
        let to = Rows { start: point * tiles * stride + panel * PANEL, stride };
        // SAFETY: each panel of each point belongs to one task.
        unsafe { product.run(isa, &target, to, false) };
    });
    drop(inputs);

    let columns = plan.columns * OUT;
    let units = plan.g.filters.div_ceil(LANES) * block.len();
    let band = || Scratch::<T>::take(OUT * columns * LANES);
    (0..units).into_par_iter().for_each_init(band, |band, unit| {
        let (group, index) = (unit / block.len(), unit % block.len());
        let (image, row) = ((block.start + index) / plan.rows, (block.start + index) % plan.rows);
        let (band, _) = band.as_chunks_mut::<LANES>();
        let rows = row * OUT..plan.g.out_height.min((row + 1) * OUT);
        let range = |lane: usize| {
            let plane = (image * plan.g.filters + group * LANES + lane) * plan.g.out_area();
            plane + rows.start * plan.g.out_width..plane + rows.end * plan.g.out_width
        };
        let lanes = LANES.min(plan.g.filters - group * LANES);
        let targets: [&mut [MaybeUninit<T>]; LANES] = std::array::from_fn(|lane| {
            // SAFETY: each row of tiles of each filter belongs to one task.
            if lane < lanes { unsafe { y.slice(range(lane)) } } else { &mut [] }
        });
        let start = |point: usize, tile: usize| {
            (point * tiles + index * plan.columns + tile) * plan.output_stride() + group * LANES
        };
        let width = plan.g.out_width;
        isa.run(OutputRow {
            products: &products,
            start,
            columns,
            width,
            band: &mut band[..rows.len().max(OUT) * columns],
            targets,
        });
        for lane in 0..lanes {
            // SAFETY: the kernel has filled it, and its own slices of it are gone.
            let values = unsafe { y.slice(range(lane)).assume_init_mut() };
            epilogue.apply(isa, group * LANES + lane, range(lane), values);
        }
    });
}

/// `[point][tile][channel]`
fn transformed_inputs<T: Float>(plan: &Plan<'_>, x: &[T], block: &Range<usize>) -> Scratch<T> {
    let (tiles, stride) = (plan.tiles(block), plan.input_stride());
    let mut inputs = Scratch::take(POINTS * tiles * stride);
    let target = DisjointMut::new(&mut inputs);
    plan.transform::<T, Input, IN>(plan.inputs(x), block, |point, tile, channel, lanes| {
        let start = (point * tiles + tile) * stride + channel;
        // SAFETY: each tile's channels belong to one task, and the slice ends with the statement.
        *unsafe { target.array(start) } = *lanes;
    });
    inputs
}

/// The outputs of one row of tiles, sixteen filters of it.
struct OutputRow<'a, T, S> {
    products: &'a [T],
    /// Where the lanes of a point and a tile of the row start.
    start: S,
    columns: usize,
    width: usize,
    band: &'a mut [Lanes<T>],
    targets: [&'a mut [MaybeUninit<T>]; LANES],
}

impl<T: Float, S: Fn(usize, usize) -> usize> Kernel for OutputRow<'_, T, S> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for tile in 0..self.columns / OUT {
            let point = |row: usize, column: usize| lanes_at(self.products, (self.start)(row * IN + column, tile));
            both::<T, Output, IN, OUT>(point, |pixel, lanes| {
                self.band[pixel / OUT * self.columns + tile * OUT + pixel % OUT] = *lanes;
            });
        }
        bands::write(self.band, self.columns, self.width, &mut self.targets);
    }
}

#[inline(always)]
fn lanes_at<T>(values: &[T], start: usize) -> &Lanes<T> {
    // The length is known, so this is a check of bounds.
    values[start..].first_chunk().unwrap_or_else(|| unreachable!("{LANES} values follow"))
}

/// `dweight`, summed over tiles at each of the points before it is mapped back.
pub(super) fn backward_weight<T: Float>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let (isa, plan) = (Isa::detect(), Plan::new(g));
    let stride = plan.output_stride();
    let mut sums = Scratch::take(POINTS * plan.channels * stride);
    for (index, block) in plan.blocks().enumerate() {
        let tiles = plan.tiles(&block);
        let inputs = transformed_inputs(&plan, x, &block);
        // `[point][panel][tile][filter of the panel]`
        let mut outputs = Scratch::take(POINTS * plan.panels * tiles * PANEL);
        let target = DisjointMut::new(&mut outputs);
        plan.transform::<T, OutputGradient, OUT>(plan.outputs(dy), &block, |point, tile, filter, lanes| {
            let start = ((point * plan.panels + filter / PANEL) * tiles + tile) * PANEL + filter % PANEL;
            // SAFETY: each tile's filters belong to one task, and the slice ends with the statement.
            *unsafe { target.array(start) } = *lanes;
        });
        let target = DisjointMut::new(&mut sums);
        (0..POINTS * plan.panels).into_par_iter().for_each(|unit| {
            let (point, panel) = (unit / plan.panels, unit % plan.panels);
            let product = Product {
                a: &inputs[point * tiles * plan.input_stride()..],
                a_row: 1,
                a_step: plan.input_stride(),
                b: &outputs[unit * tiles * PANEL..],
                rows: plan.channels,
                depth: tiles,
            };
            let to = Rows { start: point * plan.channels * stride + panel * PANEL, stride };
            // SAFETY: each panel of each point belongs to one task.
            unsafe { product.run(isa, &target, to, index > 0) };
        });
    }
    let mut dweight = vec![T::ZERO; g.weight_len()];
    dweight.par_chunks_mut(LANES * g.channels * TAPS).enumerate().for_each(|(group, dweight)| {
        isa.run(MapKernelsBack { plan: &plan, sums: &sums, group, dweight });
    });
    dweight
}

/// The gradients of sixteen filters.
struct MapKernelsBack<'a, T> {
    plan: &'a Plan<'a>,
    sums: &'a [T],
    group: usize,
    dweight: &'a mut [T],
}

impl<T: Float> Kernel for MapKernelsBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (channels, stride) = (self.plan.g.channels, self.plan.output_stride());
        for channel in 0..channels {
            let point = |row: usize, column: usize| {
                let row = (row * IN + column) * self.plan.channels + channel;
                lanes_at(self.sums, row * stride + self.group * LANES)
            };
            both::<T, WeightGradient, IN, 3>(point, |tap, lanes| {
                for (kernels, &value) in self.dweight.chunks_exact_mut(channels * TAPS).zip(lanes) {
                    kernels[channel * TAPS + tap] = value;
                }
            });
        }
    }
}
