//! What the server answers, kept as a file.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{client::Client, failure::Failure, output::print};
use crate::report::bytes_words;

/// Where an answer is kept.
#[derive(Args, Debug)]
pub struct SaveArgs {
    /// File to write, or - for standard output [default: a name made of what it is, in this directory]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// Writes the answer of `GET path` to a file, whole or not at all, and says so; or to standard output.
pub fn save(client: &Client, path: &str, query: &impl Serialize, args: &SaveArgs) -> Result<(), Failure> {
    if args.out.as_deref() == Some(Path::new("-")) {
        let mut answer = client.download(path, query)?;
        let mut out = io::stdout().lock();
        return match io::copy(&mut answer.body, &mut out).and_then(|_| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::because("the answer cannot be passed on", &error))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    // Said before the server has worked for nothing.
    if let Some(file) = &args.out {
        refuse(file, args.force)?;
    }
    let mut answer = client.download(path, query)?;
    let file = match &args.out {
        Some(file) => file.clone(),
        None => {
            let name = answer.name.as_deref().and_then(|name| Path::new(name).file_name());
            let unnamed = || Failure::Failed("the server names no file; give one with --out".into());
            PathBuf::from(name.ok_or_else(unnamed)?)
        }
    };
    refuse(&file, args.force)?;
    let cannot = |error: &io::Error| Failure::because(format_args!("{} cannot be written", file.display()), error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // As the system makes any other file; a temporary one is its user's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(|error| cannot(&error))?;
    let bytes = io::copy(&mut answer.body, &mut temporary).map_err(|error| cannot(&error))?;
    match args.force {
        true => temporary.persist(&file),
        false => temporary.persist_noclobber(&file),
    }
    .map_err(|error| cannot(&error.error))?;
    print(&format!("Wrote {} ({})", file.display(), bytes_words(bytes)))
}

fn refuse(file: &Path, force: bool) -> Result<(), Failure> {
    if file.exists() && !force {
        return Err(Failure::Failed(format!("{} is there already; --force replaces it", file.display())));
    }
    Ok(())
}
