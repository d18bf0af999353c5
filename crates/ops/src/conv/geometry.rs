//! The shapes of a convolution, checked once.

use candle_core::{Result, bail};

use super::{Conv2dConfig, Padding};
use crate::window::outputs_inside;

/// The shapes of one convolution; every number in it is positive, paddings aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub batch: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub filters: usize,
    pub kernel_height: usize,
    pub kernel_width: usize,
    pub stride: usize,
    pub padding: Padding,
    pub groups: usize,
    pub out_height: usize,
    pub out_width: usize,
}

impl Geometry {
    /// `x`: `[n, c, h, w]`; `weight`: `[o, c / groups, kh, kw]`.
    pub fn new(x: &[usize], weight: &[usize], config: Conv2dConfig) -> Result<Self> {
        let (&[batch, channels, height, width], &[filters, group_channels, kernel_height, kernel_width]) = (x, weight)
        else {
            bail!("conv2d: expected x [n, c, h, w] and weight [o, c / groups, kh, kw], got {x:?} and {weight:?}")
        };
        let Conv2dConfig { stride, padding, groups } = config;
        if x.contains(&0) || weight.contains(&0) {
            bail!("conv2d: x {x:?} or weight {weight:?} is empty")
        }
        if stride == 0 || groups == 0 {
            bail!("conv2d: stride and groups must be positive, got {stride} and {groups}")
        }
        if group_channels * groups != channels || filters % groups != 0 {
            bail!("conv2d: x {x:?} does not fit weight {weight:?} with {groups} groups")
        }
        let padded_height = height + padding.top + padding.bottom;
        let padded_width = width + padding.left + padding.right;
        if kernel_height > padded_height || kernel_width > padded_width {
            bail!("conv2d: the kernel of weight {weight:?} is larger than x {x:?} with {padding:?}")
        }
        Ok(Geometry {
            batch,
            channels,
            height,
            width,
            filters,
            kernel_height,
            kernel_width,
            stride,
            padding,
            groups,
            out_height: (padded_height - kernel_height) / stride + 1,
            out_width: (padded_width - kernel_width) / stride + 1,
        })
    }

    /// The convolution that takes the output's gradient to the input's, with weights flipped and transposed. There is one for
    /// stride 1 unless the padding is larger than a kernel can reach into.
    pub fn backward_data(&self) -> Option<Geometry> {
        let Padding { top, bottom, left, right } = self.padding;
        if self.stride != 1 {
            return None;
        }
        Some(Geometry {
            channels: self.filters,
            height: self.out_height,
            width: self.out_width,
            filters: self.channels,
            padding: Padding {
                top: (self.kernel_height - 1).checked_sub(top)?,
                bottom: (self.kernel_height - 1).checked_sub(bottom)?,
                left: (self.kernel_width - 1).checked_sub(left)?,
                right: (self.kernel_width - 1).checked_sub(right)?,
            },
            out_height: self.height,
            out_width: self.width,
            ..*self
        })
    }

    pub fn group_channels(&self) -> usize {
        self.channels / self.groups
    }

    pub fn group_filters(&self) -> usize {
        self.filters / self.groups
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel_height * self.kernel_width
    }

    /// Inputs of one output.
    pub fn depth(&self) -> usize {
        self.group_channels() * self.taps()
    }

    pub fn area(&self) -> usize {
        self.height * self.width
    }

    pub fn out_area(&self) -> usize {
        self.out_height * self.out_width
    }

    /// `[n, o, h', w']`
    pub fn out_dims(&self) -> [usize; 4] {
        [self.batch, self.filters, self.out_height, self.out_width]
    }

    pub fn input_len(&self) -> usize {
        self.batch * self.channels * self.area()
    }

    pub fn output_len(&self) -> usize {
        self.batch * self.filters * self.out_area()
    }

    pub fn weight_len(&self) -> usize {
        self.filters * self.depth()
    }

    /// One filter per channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.groups == self.filters
    }

    /// The input is its own matrix of columns.
    pub fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == 1 && self.padding == Padding::default()
    }

    /// The outputs `first..end` of a row whose input at kernel column `kx` is inside the image, and the first such input.
    pub fn columns_inside(&self, kx: usize) -> (std::ops::Range<usize>, usize) {
        outputs_inside(kx, self.stride, self.padding.left, self.width, self.out_width)
    }

    /// The input row under output row `y` at kernel row `ky`, if it is inside the image.
    pub fn row_inside(&self, y: usize, ky: usize) -> Option<usize> {
        let row = (y * self.stride + ky).checked_sub(self.padding.top)?;
        (row < self.height).then_some(row)
    }
}
