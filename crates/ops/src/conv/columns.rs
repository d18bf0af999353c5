//! The matrix of columns: a convolution as a product of matrices, a tile of the output's columns at a time.

use std::ops::Range;

use super::geometry::Geometry;
use crate::{float::Float, gemm::Mat, window::copy_strided};

/// A part of the output: some rows of one image, or all rows of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    first_image: usize,
    images: usize,
    first_row: usize,
    rows: usize,
}

/// Elements of a tile's matrix of columns that still stay in the second-level cache.
const TILE_ELEMENTS: usize = 1 << 17;
/// Columns below which the product spends too much on packing its operands, and above which there is nothing to gain.
const TILE_COLUMNS: Range<usize> = 384..1024;

impl Tile {
    /// Cuts the output into tiles of nearly equal size, in order: at least as many as there are threads if it can be cut so
    /// often without falling below a useful size.
    pub fn plan(g: &Geometry, threads: usize) -> Vec<Tile> {
        let wanted = (TILE_ELEMENTS / g.depth()).clamp(TILE_COLUMNS.start, TILE_COLUMNS.end);
        if g.out_area() < wanted {
            let images = (wanted / g.out_area()).min(g.batch.div_ceil(threads));
            let starts = (0..g.batch).step_by(images);
            return starts
                .map(|first_image| Tile {
                    first_image,
                    images: images.min(g.batch - first_image),
                    first_row: 0,
                    rows: g.out_height,
                })
                .collect();
        }
        let tiles = g.out_area().div_ceil(wanted).max(threads.div_ceil(g.batch));
        let rows = g.out_height.div_ceil(tiles);
        let image = |first_image| {
            (0..g.out_height).step_by(rows).map(move |first_row| Tile {
                first_image,
                images: 1,
                first_row,
                rows: rows.min(g.out_height - first_row),
            })
        };
        (0..g.batch).flat_map(image).collect()
    }

    /// All of some images.
    pub fn whole(g: &Geometry, images: Range<usize>) -> Tile {
        Tile { first_image: images.start, images: images.len(), first_row: 0, rows: g.out_height }
    }

    pub fn columns(&self, g: &Geometry) -> usize {
        self.images * self.image_columns(g)
    }

    fn image_columns(&self, g: &Geometry) -> usize {
        self.rows * g.out_width
    }

    /// The runs of outputs of `filter` in `[n, o, h', w']`, each with its columns in the tile's matrix.
    pub fn outputs(self, g: &Geometry, filter: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (len, filters, area) = (self.image_columns(g), g.filters, g.out_area());
        let first = self.first_row * g.out_width;
        (0..self.images).map(move |image| {
            let start = ((self.first_image + image) * filters + filter) * area + first;
            (start..start + len, image * len..(image + 1) * len)
        })
    }

    /// Where the outputs of the first filter of `group` start, if the tile is a matrix in place with rows an `out_area` apart.
    pub fn output_in_place(&self, g: &Geometry, group: usize) -> Option<usize> {
        let filter = self.first_image * g.filters + group * g.group_filters();
        (self.images == 1).then(|| filter * g.out_area() + self.first_row * g.out_width)
    }

    /// The tile's outputs `[filters of the group, columns]` of a tensor `[n, o, h', w']`.
    pub fn gather_outputs<'a, T: Float>(
        &self,
        g: &Geometry,
        y: &'a [T],
        group: usize,
        scratch: &'a mut Vec<T>,
    ) -> Mat<'a, T> {
        let (rows, columns) = (g.group_filters(), self.columns(g));
        if let Some(start) = self.output_in_place(g, group) {
            return Mat::new(&y[start..], rows, columns, g.out_area());
        }
        let matrix = sized(scratch, rows * columns);
        for (row, target) in matrix.chunks_exact_mut(columns).enumerate() {
            for (outputs, columns) in self.outputs(g, group * rows + row) {
                target[columns].copy_from_slice(&y[outputs]);
            }
        }
        Mat::new(matrix, rows, columns, columns)
    }

    /// The matrix `[channels of the group * kh * kw, columns]` of the inputs under each output, from `x` `[n, c, h, w]`.
    pub fn gather_inputs<'a, T: Float>(
        &self,
        g: &Geometry,
        x: &'a [T],
        group: usize,
        scratch: &'a mut Vec<T>,
    ) -> Mat<'a, T> {
        let (depth, columns) = (g.depth(), self.columns(g));
        if g.is_pointwise() && self.images == 1 {
            let channel = self.first_image * g.channels + group * depth;
            let start = channel * g.area() + self.first_row * g.width;
            return Mat::new(&x[start..], depth, columns, g.area());
        }
        let matrix = sized(scratch, depth * columns);
        if g.stride == 1 && g.out_width == g.width {
            self.gather_shifted(g, x, group, matrix);
            return Mat::new(matrix, depth, columns, columns);
        }
        self.for_each_run(g, group, |row, at, run| match run {
            Run::Outside(len) => matrix[row * columns + at..][..len].fill(T::ZERO),
            Run::Inside { plane, input, len } => {
                let source = &x[plane * g.area() + input..];
                copy_strided(source, g.stride, &mut matrix[row * columns + at..][..len]);
            }
        });
        Mat::new(matrix, depth, columns, columns)
    }

    /// [`Tile::gather_inputs`] where outputs lie under inputs: each row of the matrix is the plane moved by an offset, as one
    /// copy, with zeros for what came around the edges.
    fn gather_shifted<T: Float>(&self, g: &Geometry, x: &[T], group: usize, matrix: &mut [T]) {
        let (taps, len) = (g.taps(), self.image_columns(g));
        for (part, target) in matrix.chunks_exact_mut(len).enumerate() {
            let (row, image) = (part / self.images, self.first_image + part % self.images);
            let channel = group * g.group_channels() + row / taps;
            let (ky, kx) = (row % taps / g.kernel_width, row % taps % g.kernel_width);
            let plane = &x[(image * g.channels + channel) * g.area()..][..g.area()];
            // The outputs whose input is in the plane at all, and the first of these inputs.
            let ahead = (self.first_row + ky) * g.width + kx;
            let behind = g.padding.top * g.width + g.padding.left;
            let first = behind.saturating_sub(ahead).min(len);
            let start = (ahead + first).saturating_sub(behind).min(g.area());
            let end = (first + g.area() - start).min(len);
            target[..first].fill(T::ZERO);
            target[first..end].copy_from_slice(&plane[start..start + end - first]);
            target[end..].fill(T::ZERO);
            let (inside, _) = g.columns_inside(kx);
            if inside.len() < g.width {
                for row in target.chunks_exact_mut(g.width) {
                    row[..inside.start].fill(T::ZERO);
                    row[inside.end..].fill(T::ZERO);
                }
            }
        }
    }

    /// The transpose of [`Tile::gather_inputs`]: adds each element of the matrix to the input it would come from.
    pub fn scatter_inputs<T: Float>(&self, g: &Geometry, matrix: &[T], group: usize, dx: &mut [T]) {
        let columns = self.columns(g);
        let first_plane = self.first_image * g.channels;
        self.for_each_run(g, group, |row, at, run| {
            if let Run::Inside { plane, input, len } = run {
                let target = &mut dx[(plane - first_plane) * g.area() + input..];
                let source = &matrix[row * columns + at..][..len];
                for (target, &value) in target.iter_mut().step_by(g.stride).zip(source) {
                    *target += value;
                }
            }
        });
    }

    /// Walks the matrix of columns: `each(row, column, run)` for each run of neighbours in a row.
    #[inline(always)]
    fn for_each_run(&self, g: &Geometry, group: usize, mut each: impl FnMut(usize, usize, Run)) {
        let taps = g.taps();
        for row in 0..g.depth() {
            let channel = group * g.group_channels() + row / taps;
            let (ky, kx) = (row % taps / g.kernel_width, row % taps % g.kernel_width);
            let (inside, first_input) = g.columns_inside(kx);
            for image in 0..self.images {
                let plane = (self.first_image + image) * g.channels + channel;
                for y in 0..self.rows {
                    let at = (image * self.rows + y) * g.out_width;
                    let Some(input_row) = g.row_inside(self.first_row + y, ky) else {
                        each(row, at, Run::Outside(g.out_width));
                        continue;
                    };
                    each(row, at, Run::Outside(inside.start));
                    if !inside.is_empty() {
                        let input = input_row * g.width + first_input;
                        let len = inside.len();
                        each(row, at + inside.start, Run::Inside { plane, input, len });
                    }
                    each(row, at + inside.end, Run::Outside(g.out_width - inside.end));
                }
            }
        }
    }
}

enum Run {
    /// Elements in the padding.
    Outside(usize),
    /// `len` elements a stride apart, from `input` on in an image plane.
    Inside { plane: usize, input: usize, len: usize },
}

/// The first `len` elements of a buffer that grows to hold them; what they hold is stale.
pub(super) fn sized<T: Float>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    &mut buffer[..len]
}
