//! The library: weights that were fetched or imported, one file each in the data directory.
//!
//! A file is safetensors with our names and float32, the last layer included if the original had it, and says in its metadata
//! where it came from. A name keeps its weights as long as their file is there: other ones are refused under it.

use std::{
    collections::BTreeMap,
    fs,
    io::{
        self,
        ErrorKind::{InvalidData, NotFound, UnexpectedEof},
    },
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use jiff::Timestamp;
use safetensors::tensor::Metadata;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    catalogue::{self, Known},
    checkpoint::{Checkpoint, Format},
    file::{self, Cause, FileError},
    header::Header,
    naming::Plan,
};
use crate::{
    domain::spec::Backbone,
    exchange::{
        Sha256Hex,
        container::{self, Entry},
    },
};

/// The weights of a data directory.
#[derive(Clone, Debug)]
pub struct Library {
    directory: PathBuf,
}

/// What is known of weights; it stands in their file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of which network they are.
    pub backbone: Backbone,
    /// Classes of the last layer, which runs do not use; `None` where there is no such layer.
    pub classes: Option<usize>,
    /// The address or the file name that they came from.
    pub source: String,
    /// How the original file held them.
    pub format: Format,
    /// Of the original file.
    pub sha256: Sha256Hex,
    /// Under which they were published, where that is known.
    pub licence: Option<String>,
    /// When they came here, in RFC 3339.
    pub installed_at: String,
}

/// Weights that are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// What a run calls them.
    pub name: String,
    /// What is known of them.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Size of their file.
    pub bytes: u64,
    /// Their tensors' shapes, by name.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// An entry of the list: weights that are here, or that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What a run calls them.
    pub name: String,
    /// Of which network they are.
    pub backbone: Backbone,
    /// Whether they are here.
    pub installed: bool,
    /// The address or the file name that they come from.
    pub source: String,
    /// Under which they were published, where that is known.
    pub licence: Option<String>,
    /// Size of their file; of the download, where they are not here.
    pub bytes: u64,
    /// Of the original file, where they are here.
    pub sha256: Option<Sha256Hex>,
    /// When they came here, in RFC 3339.
    pub installed_at: Option<String>,
}

/// Where weights come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The address or the file name.
    pub source: String,
    /// Under which they were published, where that is known.
    pub licence: Option<String>,
    /// When they come here.
    pub at: Timestamp,
}

/// Why the library did not do what it was asked to.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// The file is not one of weights.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that is no file name.
    #[error(
        "“{0}” is not a name for weights; use letters, digits, “-”, “_” and “.”, and begin with a letter or a digit"
    )]
    Name(String),
    /// Other weights have the name.
    #[error("other weights are called “{name}” already, from {source_text}; choose another name")]
    Taken {
        /// The name.
        name: String,
        /// Where those came from.
        source_text: String,
    },
    /// Nothing is called so.
    #[error("{0}")]
    NotInstalled(String),
    /// They are of another network than the run.
    #[error("the weights “{name}” are of {found}, and the run's backbone is {wanted}")]
    OtherBackbone {
        /// Their name.
        name: String,
        /// Theirs.
        found: Backbone,
        /// The run's.
        wanted: Backbone,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

const EXTENSION: &str = "safetensors";
/// Of the manifest in a file's metadata.
const MANIFEST: &str = "twograin_weights";

impl Manifest {
    /// What the header of a safetensors file says of where its weights came from.
    pub(super) fn of(header: &Metadata) -> Option<Self> {
        serde_json::from_str(header.metadata().as_ref()?.get(MANIFEST)?).ok()
    }
}

impl Library {
    /// That of a data directory, which need not exist yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("weights") }
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is here, and what can be fetched; sorted by name. A file that cannot be read is left out, and the log says why.
    pub fn list(&self) -> Result<Vec<Listed>, LibraryError> {
        let known = catalogue::KNOWN.iter().map(|known| (known.name.to_owned(), Listed::of_known(known)));
        let mut list: BTreeMap<_, _> = known.collect();
        let files = match fs::read_dir(&self.directory) {
            Ok(files) => files.collect::<io::Result<Vec<_>>>().map_err(|source| self.io(source))?,
            Err(error) if error.kind() == NotFound => Vec::new(),
            Err(source) => return Err(self.io(source)),
        };
        for path in files.iter().map(fs::DirEntry::path) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.'));
            match name.map(|name| self.find(name)).transpose() {
                Ok(Some(Some(installed))) => {
                    list.insert(installed.name.clone(), Listed::of_installed(installed));
                }
                Ok(Some(None) | None) => {}
                Err(error) => tracing::warn!("weights are left out of the list: {error}"),
            }
        }
        Ok(list.into_values().collect())
    }

    /// The weights of this name, if they are here.
    pub fn find(&self, name: &str) -> Result<Option<Installed>, LibraryError> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.path(name);
        match Header::read(&path) {
            Ok(header) => Ok(header.manifest.clone().map(|manifest| Installed {
                name: name.to_owned(),
                manifest,
                bytes: header.bytes,
                tensors: header.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect(),
            })),
            // A file that somebody put there, and that is none of ours, must not hide the others.
            Err(error) if [NotFound, InvalidData, UnexpectedEof].contains(&error.kind()) => Ok(None),
            Err(source) => Err(LibraryError::Io { path, source }),
        }
    }

    /// The weights of this name; the error says how they are got.
    pub fn get(&self, name: &str) -> Result<Installed, LibraryError> {
        self.find(name)?.ok_or_else(|| LibraryError::NotInstalled(not_installed(name)))
    }

    /// Takes the weights of a file in under a name. Without a backbone, the file tells it. The same file under the same name
    /// changes nothing.
    pub fn install(
        &self,
        name: &str,
        file: &Path,
        backbone: Option<Backbone>,
        origin: Origin,
    ) -> Result<Installed, LibraryError> {
        if !is_name(name) {
            return Err(LibraryError::Name(name.to_owned()));
        }
        let unread = |cause: Cause| FileError { path: file.into(), cause };
        let sha256 = file::sha256(file).map_err(|error| unread(Cause::Read(error.into())))?;
        if let Some(found) = self.find(name)? {
            let same =
                found.manifest.sha256 == sha256 && backbone.is_none_or(|backbone| backbone == found.manifest.backbone);
            let taken = LibraryError::Taken { name: name.to_owned(), source_text: found.manifest.source.clone() };
            return if same { Ok(found) } else { Err(taken) };
        }
        if self.path(name).exists() {
            let source_text = "a file that Twograin did not put there".to_owned();
            return Err(LibraryError::Taken { name: name.to_owned(), source_text });
        }
        let checkpoint = Checkpoint::read(file).map_err(|error| unread(error.into()))?;
        let plan = Plan::new(checkpoint.shapes(), checkpoint.backbone, backbone).map_err(unread)?;
        let entry = |tensor: Result<(String, Tensor), _>| {
            let (name, tensor) = tensor?;
            Ok(Entry::f32(name, tensor.dims(), &tensor.flatten_all()?.to_vec1::<f32>()?))
        };
        let entries: Result<Vec<Entry>, _> = plan.tensors(&checkpoint).map(entry).collect();
        let entries = entries.map_err(|error| unread(Cause::Read(error)))?;
        let format = checkpoint.format;
        drop(checkpoint);
        let Origin { source, licence, at } = origin;
        let manifest = Manifest {
            backbone: plan.backbone,
            classes: plan.classes,
            source,
            format,
            sha256,
            licence,
            installed_at: at.to_string(),
        };
        fs::create_dir_all(&self.directory).map_err(|source| self.io(source))?;
        let path = self.path(name);
        let io = |source| LibraryError::Io { path: path.clone(), source };
        let manifest = serde_json::to_string(&manifest).map_err(|error| io(error.into()))?;
        container::write(&path, entries, &BTreeMap::from([(MANIFEST, manifest)])).map_err(io)?;
        self.get(name)
    }

    /// The file that a run starts from: weights of this name, or else a file at this path. `None` if there is neither.
    pub fn locate(&self, name: &str) -> Option<PathBuf> {
        let installed = is_name(name).then(|| self.path(name)).filter(|path| path.is_file());
        installed.or_else(|| Some(PathBuf::from(name)).filter(|path| path.is_file()))
    }

    /// Whether a run with this backbone can start from weights of this name, or from a file at this path.
    pub fn check(&self, name: &str, wanted: Backbone) -> Result<(), LibraryError> {
        match (self.find(name)?, self.locate(name)) {
            (Some(found), _) if found.manifest.backbone == wanted => Ok(()),
            (Some(Installed { name, manifest, .. }), _) => {
                Err(LibraryError::OtherBackbone { name, found: manifest.backbone, wanted })
            }
            (None, Some(path)) => Ok(file::check(&path, wanted)?),
            (None, None) => Err(LibraryError::NotInstalled(not_installed(name))),
        }
    }

    /// The file that weights of this name are in, if there are any.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{EXTENSION}"))
    }

    fn io(&self, source: io::Error) -> LibraryError {
        LibraryError::Io { path: self.directory.clone(), source }
    }
}

/// The SHA-256 of the original of a file of the library, or of any other file itself.
pub fn fingerprint(path: &Path) -> io::Result<Sha256Hex> {
    match Header::read(path).ok().and_then(|header| header.manifest) {
        Some(manifest) => Ok(manifest.sha256),
        None => file::sha256(path),
    }
}

fn not_installed(name: &str) -> String {
    match Known::find(name) {
        Some(_) => format!("the weights “{name}” are not installed; `twograin weights fetch {name}` installs them"),
        None => format!(
            "there are no weights “{name}”, and no such file on the server; `twograin weights list` shows those there are"
        ),
    }
}

/// Whether it can be a file's name everywhere, and is no path.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    name.len() <= 100 && name.chars().all(fits) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl Listed {
    fn of_known(known: &Known) -> Self {
        Self {
            name: known.name.into(),
            backbone: known.backbone,
            installed: false,
            source: known.remote.to_string(),
            licence: Some(known.licence.into()),
            bytes: known.bytes,
            sha256: None,
            installed_at: None,
        }
    }

    fn of_installed(Installed { name, manifest, bytes, .. }: Installed) -> Self {
        let Manifest { backbone, source, sha256, licence, installed_at, .. } = manifest;
        Self {
            name,
            backbone,
            installed: true,
            source,
            licence,
            bytes,
            sha256: Some(sha256),
            installed_at: Some(installed_at),
        }
    }
}
