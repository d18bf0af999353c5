//! A model's tensors by name: what is trained, and the running statistics beside it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Iter},
    fmt, io,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::exchange::{
    Sha256Hex,
    container::{self, Entry},
};

/// Named tensors, in the order of their names. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Parameters {
    trained: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Var>,
    groups: Vec<Group>,
    in_group: bool,
    /// What new tensors are drawn from; without one, they are zero.
    seed: Option<u64>,
    dtype: DType,
    device: Device,
}

/// What is frozen and unfrozen together.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    members: BTreeSet<String>,
}

/// Tensors as they were, by name.
#[derive(Debug)]
pub struct Snapshot(Vec<(String, Var, Tensor)>);

impl Snapshot {
    /// Makes them so again.
    pub fn restore(&self) -> candle_core::Result<()> {
        self.0.iter().try_for_each(|(_, var, copy)| var.set(copy))
    }

    /// What they were.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, _, copy)| (&**name, copy))
    }

    /// The same, to be replaced by tensors of the same shapes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Tensor)> {
        self.0.iter_mut().map(|(name, _, copy)| (&**name, copy))
    }
}

/// How a new tensor is filled.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Zero-mean normal with this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
}

impl Init {
    /// He et al. 2015 for a ReLU network, variance kept in the forward pass: `std = sqrt(2 / fan_in)`, where
    /// `fan_in = input · kernel²` of a convolution `[out, input, kernel, kernel]`.
    pub fn kaiming_fan_in(input: usize, kernel: usize) -> Self {
        Self::Normal((2.0 / (input * kernel * kernel) as f64).sqrt())
    }

    /// He et al. 2015 for a ReLU network, variance kept in the backward pass: `std = sqrt(2 / fan_out)`, where
    /// `fan_out = out · kernel²` of a convolution `[out, in, kernel, kernel]`.
    pub fn kaiming_fan_out(out: usize, kernel: usize) -> Self {
        Self::Normal((2.0 / (out * kernel * kernel) as f64).sqrt())
    }
}

/// Why weights could not be written or read.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The weights file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a safetensors file, or a tensor of a type that is not a number's.
    #[error("{}: {source}", path.display())]
    Read {
        /// The weights file.
        path: PathBuf,
        /// What the reader said.
        source: candle_core::Error,
    },
    /// Weights of another network.
    #[error("{}: {difference}", path.display())]
    Mismatch {
        /// The weights file.
        path: PathBuf,
        /// What differs.
        difference: Difference,
    },
}

/// How the tensors of a file differ from those of a model. Lists are sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The model has them, the file has not.
    pub missing: Vec<String>,
    /// The file has them, the model has not.
    pub extra: Vec<String>,
    /// Name, shape in the model, shape in the file.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = |(name, model, file): &(String, Vec<usize>, Vec<usize>)| {
            format!("{name} (expected {model:?}, found {file:?})")
        };
        let parts = [
            ("missing", self.missing.join(", ")),
            ("unexpected", self.extra.join(", ")),
            ("of another shape", self.misshapen.iter().map(shapes).collect::<Vec<_>>().join(", ")),
        ];
        f.write_str("not of this network; ")?;
        let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what}: {names}"));
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

impl Parameters {
    /// None yet; those to come are drawn from `seed`.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { seed: Some(seed), ..Self::zeros(dtype, device) }
    }

    /// None yet; those to come are zero, for names and shapes at little cost.
    pub fn zeros(dtype: DType, device: &Device) -> Self {
        Self {
            trained: BTreeMap::new(),
            buffers: BTreeMap::new(),
            groups: Vec::new(),
            in_group: false,
            seed: None,
            dtype,
            device: device.clone(),
        }
    }

    /// Begins a layer group: the tensors added from here on belong to it, until the next one begins.
    pub fn begin_group(&mut self, name: impl Into<String>) {
        self.groups.push(Group { name: name.into(), members: BTreeSet::new() });
        self.in_group = true;
    }

    /// The tensors added from here on belong to no layer group.
    pub fn end_groups(&mut self) {
        self.in_group = false;
    }

    /// The layer groups, in the order in which an image goes through them.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| &*group.name)
    }

    /// The layer group of a tensor; `None` if it has none, as those of the head.
    pub fn group_of(&self, tensor: &str) -> Option<&str> {
        self.groups.iter().find(|group| group.members.contains(tensor)).map(|group| &*group.name)
    }

    /// What they are made of.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Adds a trained tensor. Its values depend on the seed and its name alone, not on what was added before.
    pub fn trained(&mut self, name: String, shape: &[usize], init: Init) -> candle_core::Result<Var> {
        let var = self.fill(&name, shape, init)?;
        self.trained.insert(name, var.clone());
        Ok(var)
    }

    /// Adds a tensor that training updates without a gradient.
    pub fn buffer(&mut self, name: String, shape: &[usize], value: f64) -> candle_core::Result<Var> {
        let var = self.fill(&name, shape, Init::Constant(value))?;
        self.buffers.insert(name, var.clone());
        Ok(var)
    }

    fn fill(&mut self, name: &str, shape: &[usize], init: Init) -> candle_core::Result<Var> {
        if let (true, Some(group)) = (self.in_group, self.groups.last_mut()) {
            group.members.insert(name.into());
        }
        let Some(seed) = self.seed else { return Var::zeros(shape, self.dtype, &self.device) };
        let count = shape.iter().product();
        let mut rng = named_rng(seed, name);
        let values: Box<dyn Iterator<Item = f64>> = match init {
            Init::Constant(value) => Box::new(std::iter::repeat_n(value, count)),
            Init::Normal(std) => {
                let normal = Normal::new(0.0, std).map_err(candle_core::Error::wrap)?;
                Box::new(normal.sample_iter(&mut rng).take(count))
            }
            Init::Uniform(bound) => Box::new((0..count).map(move |_| rng.random_range(-bound..=bound))),
        };
        // The largest tensor of VGG16 has 0.4 GB: nothing of it is held twice.
        if self.dtype == DType::F32 {
            return Var::from_vec(values.map(|value| value as f32).collect(), shape, &self.device);
        }
        let values = Tensor::from_vec(values.collect(), shape, &Device::Cpu)?;
        Var::from_tensor(&values.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// The trained tensors, by name.
    pub fn iter_trained(&self) -> Iter<'_, String, Var> {
        self.trained.iter()
    }

    /// Every tensor, trained ones first, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.trained.iter().chain(&self.buffers)
    }

    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.trained.values().map(|var| var.elem_count()).sum()
    }

    /// A copy of the tensors whose layer group is `wanted` (`None`: the head).
    pub fn snapshot(&self, wanted: impl Fn(Option<&str>) -> bool) -> candle_core::Result<Snapshot> {
        let wanted = self.iter().filter(|(name, _)| wanted(self.group_of(name)));
        let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.clone(), var.copy()?));
        wanted.map(copy).collect::<candle_core::Result<_>>().map(Snapshot)
    }

    /// Writes every tensor as float32 safetensors.
    pub fn save(&self, path: &Path) -> Result<Sha256Hex, WeightsError> {
        write_tensors(path, self.iter().map(|(name, var)| (name.clone(), var)), &BTreeMap::new())
    }

    /// Replaces every tensor by that of the safetensors file, which must have these names and shapes and no other.
    pub fn load(&self, path: &Path) -> Result<(), WeightsError> {
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
        read_tensors(path, &bytes, self.iter().map(|(name, var)| (name.clone(), var)), |_| false)
    }

    /// Replaces the tensors that are `wanted` by those of the file, which has `tensors`; those that are `ignored` may be there.
    /// Nothing is replaced if anything differs.
    pub fn replace_some(
        &self,
        path: &Path,
        tensors: HashMap<String, Tensor>,
        wanted: impl Fn(&str) -> bool,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<(), WeightsError> {
        let vars = self.iter().filter(|(name, _)| wanted(name)).map(|(name, var)| (name.clone(), var));
        replace(path, tensors, vars, ignored)
    }
}

/// Writes these as float32 safetensors.
pub fn write_tensors<'a>(
    path: &Path,
    vars: impl Iterator<Item = (String, &'a Var)>,
    metadata: &BTreeMap<&str, String>,
) -> Result<Sha256Hex, WeightsError> {
    let entries = vars.map(|(name, var)| tensor_entry(name, var)).collect();
    container::write(path, entries, metadata).map_err(|source| WeightsError::Io { path: path.into(), source })
}

/// A tensor as float32, which is copied when it is its turn to be written.
pub fn tensor_entry(name: String, tensor: &Tensor) -> Entry<'_> {
    Entry::f32_later(name, tensor.dims(), |to| {
        let values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
        container::write_f32(to, &values.map_err(io::Error::other)?)
    })
}

/// Replaces these by the tensors of a safetensors file, whose content is `bytes`; tensors of the file that are `ignored` may be
/// there as well, others not. Nothing is replaced if anything differs.
pub fn read_tensors<'a>(
    path: &Path,
    bytes: &[u8],
    vars: impl Iterator<Item = (String, &'a Var)>,
    ignored: impl Fn(&str) -> bool,
) -> Result<(), WeightsError> {
    let file = candle_core::safetensors::load_buffer(bytes, &Device::Cpu);
    replace(path, file.map_err(|source| WeightsError::Read { path: path.into(), source })?, vars, ignored)
}

/// Replaces these by the tensors of a file, as [`read_tensors`] does.
fn replace<'a>(
    path: &Path,
    mut file: HashMap<String, Tensor>,
    vars: impl Iterator<Item = (String, &'a Var)>,
    ignored: impl Fn(&str) -> bool,
) -> Result<(), WeightsError> {
    file.retain(|name, _| !ignored(name));

    let mut difference = Difference::default();
    let mut pairs = Vec::new();
    for (name, var) in vars {
        match file.remove(&name) {
            None => difference.missing.push(name),
            Some(tensor) if tensor.dims() != var.dims() => {
                difference.misshapen.push((name, var.dims().to_vec(), tensor.dims().to_vec()));
            }
            Some(tensor) => pairs.push((var, tensor)),
        }
    }
    difference.extra = file.into_keys().collect();
    difference.missing.sort();
    difference.extra.sort();
    difference.misshapen.sort();
    if difference != Difference::default() {
        return Err(WeightsError::Mismatch { path: path.into(), difference });
    }
    for (var, tensor) in pairs {
        let tensor = tensor.to_dtype(var.dtype()).and_then(|tensor| tensor.to_device(var.device()));
        let set = tensor.and_then(|tensor| var.set(&tensor));
        set.map_err(|source| WeightsError::Read { path: path.into(), source })?;
    }
    Ok(())
}

/// A generator of its own for each name, so that adding a layer leaves the others' values as they were.
fn named_rng(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    ChaCha8Rng::from_seed(digest.into())
}
