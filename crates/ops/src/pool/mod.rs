//! Pooling over windows of an image.

use std::ops::Range;

use candle_core::{Result, bail};

mod average;
mod max;

pub use average::{adaptive_avg_pool2d, avg_pool2d, global_avg_pool};
pub use max::max_pool2d;

/// A square window and how it moves, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dConfig {
    /// The window's side.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Around the image on each side.
    pub padding: usize,
    /// Round the number of windows up: a last one may reach beyond the padding, but does not start there.
    pub ceil: bool,
}

impl Pool2dConfig {
    /// As many windows as fit.
    pub const fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Pool2dConfig { kernel, stride, padding, ceil: false }
    }

    /// Height and width of the output for those of the input.
    fn outputs(self, op: &str, (height, width): (usize, usize)) -> Result<(usize, usize)> {
        let Pool2dConfig { kernel, stride, padding, ceil } = self;
        if kernel == 0 || stride == 0 || 2 * padding > kernel {
            bail!("{op}: kernel and stride must be positive and padding at most half a kernel, got {self:?}")
        }
        if kernel > height.min(width) + 2 * padding {
            bail!("{op}: the window of {self:?} is larger than the image of {height} by {width} pixels")
        }
        let outputs = |pixels: usize| {
            let steps = pixels + 2 * padding - kernel;
            if ceil { steps.div_ceil(stride).min((pixels + padding - 1) / stride) + 1 } else { steps / stride + 1 }
        };
        Ok((outputs(height), outputs(width)))
    }

    /// The pixels under window `index` along an axis of `len`; never empty, as the padding is at most half a kernel and no
    /// window starts behind the pixels.
    fn pixels(self, index: usize, len: usize) -> Range<usize> {
        let start = index * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(len)
    }

    /// Length of that window within the padded axis.
    fn extent(self, index: usize, len: usize) -> usize {
        self.kernel.min(len + 2 * self.padding - index * self.stride)
    }
}
