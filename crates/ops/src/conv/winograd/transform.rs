//! The linear maps of F(4×4, 3×3) (Winograd 1980; Lavin and Gray 2016), on sixteen channels at a time.
//!
//! They come from the Toom-Cook algorithm at the points 0, ±√½, ±√2 and ∞, which lose half as many digits as the usual 0, ±1,
//! ±2 (Barabasz et al. 2020 study the choice).

use crate::float::Float;

/// Channels that are computed together.
pub(super) const LANES: usize = 16;
/// Side of a tile of outputs.
pub(super) const OUT: usize = 4;
/// Side of a tile of inputs, and of its transform.
pub(super) const IN: usize = 6;
/// Elements of a transformed tile.
pub(super) const POINTS: usize = IN * IN;

/// One value of each channel.
pub(super) type Lanes<T> = [T; LANES];

const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

/// A one-dimensional map from `FROM` values to `TO`.
pub(super) trait Map<T: Float, const FROM: usize, const TO: usize> {
    fn map(values: [T; FROM]) -> [T; TO];
}

/// Bᵀ: a tile of inputs.
pub(super) struct Input;
/// Aᵀ: to a tile of outputs.
pub(super) struct Output;
/// A: a tile of gradients of outputs.
pub(super) struct OutputGradient;
/// G: a kernel.
pub(super) struct Weight;
/// Gᵀ: to the gradient of a kernel.
pub(super) struct WeightGradient;

impl<T: Float> Map<T, 6, 6> for Input {
    #[inline(always)]
    fn map(d: [T; 6]) -> [T; 6] {
        let (a, b, half, two, more) =
            (T::from_f64(A), T::from_f64(B), T::from_f64(0.5), T::from_f64(2.), T::from_f64(2.5));
        let (even_a, odd_a) = (d[4] - two * d[2], a * (d[3] - two * d[1]));
        let (even_b, odd_b) = (d[4] - half * d[2], b * (d[3] - half * d[1]));
        [
            d[0] - more * d[2] + d[4],
            even_a + odd_a,
            even_a - odd_a,
            even_b + odd_b,
            even_b - odd_b,
            d[1] - more * d[3] + d[5],
        ]
    }
}

impl<T: Float> Map<T, 6, 4> for Output {
    #[inline(always)]
    fn map(m: [T; 6]) -> [T; 4] {
        let (a, b, half, two, half_a, two_b) = (
            T::from_f64(A),
            T::from_f64(B),
            T::from_f64(0.5),
            T::from_f64(2.),
            T::from_f64(A / 2.),
            T::from_f64(2. * B),
        );
        let (sum_a, difference_a) = (m[1] + m[2], m[1] - m[2]);
        let (sum_b, difference_b) = (m[3] + m[4], m[3] - m[4]);
        [
            m[0] + sum_a + sum_b,
            a * difference_a + b * difference_b,
            half * sum_a + two * sum_b,
            half_a * difference_a + two_b * difference_b + m[5],
        ]
    }
}

impl<T: Float> Map<T, 4, 6> for OutputGradient {
    #[inline(always)]
    fn map(y: [T; 4]) -> [T; 6] {
        let (a, b, half, two, half_a, two_b) = (
            T::from_f64(A),
            T::from_f64(B),
            T::from_f64(0.5),
            T::from_f64(2.),
            T::from_f64(A / 2.),
            T::from_f64(2. * B),
        );
        let (even_a, odd_a) = (y[0] + half * y[2], a * y[1] + half_a * y[3]);
        let (even_b, odd_b) = (y[0] + two * y[2], b * y[1] + two_b * y[3]);
        [y[0], even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y[3]]
    }
}

impl<T: Float> Map<T, 3, 6> for Weight {
    #[inline(always)]
    fn map(g: [T; 3]) -> [T; 6] {
        let (half, two, a, b, scale_a, scale_b) = (
            T::from_f64(0.5),
            T::from_f64(2.),
            T::from_f64(A),
            T::from_f64(B),
            T::from_f64(-1. / 1.5),
            T::from_f64(1. / 6.),
        );
        let (even_a, odd_a) = (g[0] + half * g[2], a * g[1]);
        let (even_b, odd_b) = (g[0] + two * g[2], b * g[1]);
        [
            g[0],
            scale_a * (even_a + odd_a),
            scale_a * (even_a - odd_a),
            scale_b * (even_b + odd_b),
            scale_b * (even_b - odd_b),
            g[2],
        ]
    }
}

impl<T: Float> Map<T, 6, 3> for WeightGradient {
    #[inline(always)]
    fn map(u: [T; 6]) -> [T; 3] {
        let (half, two, a, b, scale_a, scale_b) = (
            T::from_f64(0.5),
            T::from_f64(2.),
            T::from_f64(A),
            T::from_f64(B),
            T::from_f64(-1. / 1.5),
            T::from_f64(1. / 6.),
        );
        let (sum_a, sum_b) = (scale_a * (u[1] + u[2]), scale_b * (u[3] + u[4]));
        let (difference_a, difference_b) = (scale_a * (u[1] - u[2]), scale_b * (u[3] - u[4]));
        [u[0] + sum_a + sum_b, a * difference_a + b * difference_b, half * sum_a + two * sum_b + u[5]]
    }
}

/// [`Map`] on lanes.
#[inline(always)]
fn on_lanes<T: Float, M: Map<T, FROM, TO>, const FROM: usize, const TO: usize>(
    values: [&Lanes<T>; FROM],
) -> [Lanes<T>; TO] {
    let mut mapped = [[T::ZERO; LANES]; TO];
    for lane in 0..LANES {
        // Loops, as a call of `array::map` is not always inlined, and then not compiled for the instructions at hand.
        let mut of_lane = [T::ZERO; FROM];
        for (value, lanes) in of_lane.iter_mut().zip(values) {
            *value = lanes[lane];
        }
        for (lanes, value) in mapped.iter_mut().zip(M::map(of_lane)) {
            lanes[lane] = value;
        }
    }
    mapped
}

/// The map on columns, then on rows. `tile(row, column)` reads it; `put(row * TO + column, lanes)` takes the result.
#[inline(always)]
pub(super) fn both<'a, T: Float, M: Map<T, FROM, TO>, const FROM: usize, const TO: usize>(
    tile: impl Fn(usize, usize) -> &'a Lanes<T>,
    mut put: impl FnMut(usize, &Lanes<T>),
) {
    let mut columns = [[[T::ZERO; LANES]; TO]; FROM];
    for (column, mapped) in columns.iter_mut().enumerate() {
        *mapped = on_lanes::<T, M, FROM, TO>(std::array::from_fn(|row| tile(row, column)));
    }
    #[expect(clippy::needless_range_loop, reason = "a row of `columns` is its second index")]
    for row in 0..TO {
        let mapped = on_lanes::<T, M, FROM, TO>(std::array::from_fn(|column| &columns[column][row]));
        for (column, lanes) in mapped.iter().enumerate() {
            put(row * TO + column, lanes);
        }
    }
}
