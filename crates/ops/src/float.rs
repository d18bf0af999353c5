//! The element types the operations are written for, and the way from a candle tensor to a slice of them.

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, WithDType, bail};

use crate::{
    product::{self, Tile},
    scratch::Pool,
    simd::Isa,
};

/// `f32`, or `f64` for gradient checks.
pub(crate) trait Float: WithDType + Default {
    const ZERO: Self;
    const ONE: Self;
    const SIX: Self;
    /// The largest number below six.
    const BELOW_SIX: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;

    fn is_nan(self) -> bool;
    /// The elements of a storage of this type.
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// Buffers of this type that wait for their next use.
    fn pool() -> &'static Pool<Self>;
    /// Computes rows of a product, and returns how many.
    ///
    /// # Safety
    /// The tile's pointers must be valid for its rows.
    unsafe fn tile(isa: Isa, tile: Tile<Self>) -> usize;
}

impl Float for f32 {
    const ZERO: Self = 0.;
    const ONE: Self = 1.;
    const SIX: Self = 6.;
    const BELOW_SIX: Self = 6f32.next_down();
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(elements) = storage { Some(elements) } else { None }
    }

    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f32> = Pool::new(Vec::new());
        &POOL
    }

    // SAFETY: the caller's promise is the one `single` asks for.
    unsafe fn tile(isa: Isa, tile: Tile<Self>) -> usize {
        // SAFETY: as the caller promises.
        unsafe { product::single(isa, tile) }
    }
}

impl Float for f64 {
    const ZERO: Self = 0.;
    const ONE: Self = 1.;
    const SIX: Self = 6.;
    const BELOW_SIX: Self = 6f64.next_down();
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(elements) = storage { Some(elements) } else { None }
    }

    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f64> = Pool::new(Vec::new());
        &POOL
    }

    // SAFETY: the caller's promise is the one `portable` asks for.
    unsafe fn tile(_isa: Isa, tile: Tile<Self>) -> usize {
        // SAFETY: as the caller promises.
        unsafe { product::portable(tile) }
    }
}

/// Evaluates `$body`, a `Result`, with `$T` standing for the Rust type of `$storage`'s elements.
macro_rules! with_float {
    ($storage:expr, $op:expr, $T:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => {
                type $T = f32;
                $body
            }
            candle_core::CpuStorage::F64(_) => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!(
                "{}: expected f32 or f64, got {:?}",
                $op,
                candle_core::backend::BackendStorage::dtype(other)
            ),
        }
    };
}
pub(crate) use with_float;

/// The elements of a contiguous tensor. The public functions see to contiguity, so an error here is this crate's mistake.
pub(crate) fn elements<'a, T: Float>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op}: expected a contiguous tensor, got {layout:?}")
    };
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}

/// [`elements`] to write to.
pub(crate) fn elements_mut<'a, T: Float>(
    op: &str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [T]> {
    match (layout.contiguous_offsets(), T::of_storage(storage)) {
        (Some((start, end)), Some(elements)) => Ok(&mut elements[start..end]),
        (None, _) => bail!("{op}: expected a contiguous tensor, got {layout:?}"),
        (Some(_), None) => bail!("{op}: operands differ in element type"),
    }
}

/// A tensor's storage from its elements.
pub(crate) fn storage<T: Float>(elements: Vec<T>) -> CpuStorage {
    T::to_cpu_storage_owned(elements)
}

/// Refuses tensors that differ in element type or device from the first, and element types other than `f32` and `f64`.
pub(crate) fn ensure_alike(op: &str, tensors: &[&Tensor]) -> Result<()> {
    let Some((first, rest)) = tensors.split_first() else {
        return Ok(());
    };
    if !matches!(first.dtype(), DType::F32 | DType::F64) {
        bail!("{op}: expected f32 or f64, got {:?}", first.dtype())
    }
    if !first.device().is_cpu() {
        bail!("{op}: not implemented on this device: {:?}", first.device().location())
    }
    for other in rest {
        if other.dtype() != first.dtype() {
            bail!("{op}: operands differ in element type: {:?} and {:?}", first.dtype(), other.dtype())
        }
        if !other.device().same_device(first.device()) {
            bail!("{op}: operands are on different devices")
        }
    }
    Ok(())
}

/// The four dimensions of an image tensor `[n, c, h, w]`, none of them zero.
pub(crate) fn image_dims(op: &str, x: &Tensor) -> Result<[usize; 4]> {
    match *x.dims() {
        [n, c, h, w] if n * c * h * w > 0 => Ok([n, c, h, w]),
        _ => bail!("{op}: expected a non-empty tensor [n, c, h, w], got {:?}", x.shape()),
    }
}
