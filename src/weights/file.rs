//! A file as weights of a backbone.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    checkpoint::{Checkpoint, ReadError},
    header::Header,
    naming::Plan,
};
use crate::{domain::spec::Backbone, exchange::Sha256Hex, model::Difference};

/// Why a file does not serve as weights.
#[derive(Debug, Error)]
#[error("{}: {cause}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a file of weights.
#[derive(Debug, Error)]
pub enum Cause {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its tensors are none of a network that we know.
    #[error("it is of no network that Twograin has; its tensors are {}, …", .0.join(", "))]
    Unknown(Vec<String>),
    /// Its tensors are those of several networks, which compute with them differently.
    #[error("it fits {} alike, which differ in padding and batch norm; --backbone says which it is", .0.join(" and "))]
    Ambiguous(Vec<&'static str>),
    /// A library's file says that it is of another backbone.
    #[error("its weights are of {found}, not of {wanted}")]
    OtherBackbone {
        /// What the file says.
        found: Backbone,
        /// The backbone that was asked for.
        wanted: Backbone,
    },
    /// Its tensors are not those of the backbone.
    #[error("as {backbone}, {difference}")]
    Mismatch {
        /// The backbone that was asked for, or the nearest one.
        backbone: Backbone,
        /// Every tensor that differs.
        difference: Box<Difference>,
    },
}

/// The tensors of a file with a backbone's weights, by our names, as float32; the last layer's too, if it is there.
///
/// Any format and any naming that the module knows. What is missing, unexpected or of another shape is named in the error.
pub fn read(path: &Path, backbone: Backbone) -> Result<HashMap<String, Tensor>, FileError> {
    let tensors = || {
        let file = Checkpoint::read(path)?;
        Ok(Plan::new(file.shapes(), file.backbone, Some(backbone))?.tensors(&file).collect::<Result<_, _>>()?)
    };
    tensors().map_err(|cause| FileError { path: path.into(), cause })
}

/// Whether a file has weights of the backbone; its values are not looked at, and those of safetensors not even read.
pub fn check(path: &Path, backbone: Backbone) -> Result<(), FileError> {
    let plan = match Header::read(path) {
        Ok(header) => {
            Plan::new(header.shapes(), header.manifest.as_ref().map(|manifest| manifest.backbone), Some(backbone))
        }
        // Of another format, or damaged, which its reader tells better.
        Err(_) => Checkpoint::read(path)
            .map_err(Cause::from)
            .and_then(|file| Plan::new(file.shapes(), file.backbone, Some(backbone))),
    };
    plan.map(drop).map_err(|cause| FileError { path: path.into(), cause })
}

/// The SHA-256 of a file of any size.
pub fn sha256(path: &Path) -> io::Result<Sha256Hex> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.into()),
            count => hash.update(&buffer[..count]),
        }
    }
}
