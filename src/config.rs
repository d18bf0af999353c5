//! Flags and environment → one typed [`Config`].

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, builder::FalseyValueParser};

use crate::{
    domain::SlurmOptions,
    scheduler::{Executors, Limits, Slots},
};

/// What the server runs with. A value is valid: an address that needs `--insecure` came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where pages and API are served.
    pub listen: SocketAddr,
    /// Where workers report: token-protected endpoints and nothing else. Port 0: any free one.
    pub worker_listen: SocketAddr,
    /// Where workers on other machines find that address; without it, at the address itself.
    pub worker_url: Option<String>,
    /// What starts the workers.
    pub executors: Executors,
    /// What jobs ask of Slurm where their run asks for nothing else.
    pub slurm: SlurmOptions,
    /// Where everything is kept.
    pub data: DataConfig,
    /// What the features of frozen backbones may take on disk, in bytes.
    pub feature_cache_bytes: u64,
    /// Time between two checkpoints of a run in the middle of an epoch.
    pub checkpoint_every: Duration,
    /// How many runs may run at once on each device.
    pub slots: Slots,
    /// When a worker is given up.
    pub limits: Limits,
    /// Whether workers go on when the server is stopped.
    pub keep_workers: bool,
    /// Whether an address that other machines reach was allowed explicitly.
    pub insecure: bool,
}

/// Where everything is kept, as flags.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// Directory for the database, scores, weights, checkpoints and demo images
    ///
    /// It is created when it does not exist. Copy it to keep or to move everything.
    #[arg(long, value_name = "DIR", env = "TWOGRAIN_DATA_DIR", default_value = "./twograin-data")]
    pub data_dir: PathBuf,

    /// The SQLite database, when it is to stand outside the data directory [default: twograin.db in the data directory]
    ///
    /// Needed when the data directory is on a network file system, where SQLite's write-ahead log does not work.
    #[arg(long, value_name = "FILE", env = "TWOGRAIN_DATABASE")]
    pub database: Option<PathBuf>,
}

/// The server's flags, as given.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address and port of the pages and the API
    ///
    /// There are no accounts yet, so an address that other machines can reach is refused without --insecure.
    #[arg(long, value_name = "ADDRESS", env = "TWOGRAIN_LISTEN", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,

    #[command(flatten)]
    data: DataConfig,

    /// Address and port where training processes report to the server; port 0 takes a free one
    ///
    /// Serves endpoints for workers alone, each protected by a token that a training process gets when it is started.
    #[arg(long, value_name = "ADDRESS", env = "TWOGRAIN_WORKER_LISTEN", default_value = "127.0.0.1:0", value_parser = address)]
    worker_listen: SocketAddr,

    /// Where workers on other machines find --worker-listen, such as http://head:8081 [default: its address]
    #[arg(long, value_name = "URL", env = "TWOGRAIN_WORKER_URL", value_parser = worker_url)]
    worker_url: Option<String>,

    /// What starts training processes: local (this server, on its machine), slurm (jobs of a cluster), or one for each class of devices
    ///
    /// cpu=local,cuda=slurm trains on the processor here and on GPUs in the cluster. Slurm needs its commands on this machine, the
    /// data directory on a file system that the nodes share, and --worker-listen and --worker-url where nodes reach them.
    #[arg(long, value_name = "EXECUTOR", env = "TWOGRAIN_EXECUTOR", default_value = "local")]
    executor: Executors,

    /// What jobs ask of Slurm where their run asks for nothing else
    ///
    /// partition, account, gres, memory, time and cpus, and options of sbatch, as in
    /// partition=gpu,time=2:00:00,memory=16G,gres=gpu:1,--qos=high. Twograin sets outputs, environment and signals itself.
    #[arg(long, value_name = "KEY=VALUE,…", env = "TWOGRAIN_SLURM", default_value = "", hide_default_value = true,
          value_parser = SlurmOptions::of_configuration)]
    slurm: SlurmOptions,

    /// Disk space for the features of frozen backbones, in GiB, so that other runs on the same weights need not compute them again
    #[arg(long, value_name = "GIB", env = "TWOGRAIN_FEATURE_CACHE", default_value_t = 4)]
    feature_cache: u32,

    /// Minutes between two checkpoints of a run in the middle of an epoch
    ///
    /// A run whose process is killed goes on from its last checkpoint, and loses at most so much. There is one at the end of each epoch as well.
    #[arg(long, value_name = "MINUTES", env = "TWOGRAIN_CHECKPOINT_MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_minutes: u32,

    /// Runs that may run at once on each device, such as cpu=2,cuda:0=1; one where nothing is said
    #[arg(long, value_name = "DEVICE=N", env = "TWOGRAIN_SLOTS", default_value = "")]
    slots: Slots,

    /// Leave training processes running when the server is stopped
    ///
    /// They look for the next server on the same data directory for as long as --patience says, then write a checkpoint and end.
    /// Without it they do so at once.
    #[arg(long, env = "TWOGRAIN_KEEP_WORKERS", value_parser = FalseyValueParser::new())]
    keep_workers: bool,

    /// Seconds that a training process goes on without its server before it writes a checkpoint and ends
    #[arg(long, value_name = "SECONDS", env = "TWOGRAIN_PATIENCE", default_value_t = 60)]
    patience: u32,

    /// Seconds without a word from a training process after which it is given up, and its run goes on from its last checkpoint
    ///
    /// More than --patience, as a process may be looking for the server so long.
    #[arg(long, value_name = "SECONDS", env = "TWOGRAIN_LOST_AFTER", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    lost_after: u32,

    /// Seconds without progress after which a training process is given up, though it answers
    #[arg(long, value_name = "SECONDS", env = "TWOGRAIN_STALLED_AFTER", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..))]
    stalled_after: u32,

    /// Allow a --listen address that other machines can reach
    ///
    /// Whoever reaches it can read everything, start and delete runs. Use it behind something that asks who is there.
    #[arg(long, env = "TWOGRAIN_INSECURE", value_parser = FalseyValueParser::new())]
    insecure: bool,
}

impl TryFrom<ServeArgs> for Config {
    type Error = String;

    fn try_from(args: ServeArgs) -> Result<Self, String> {
        let ServeArgs {
            listen,
            data,
            worker_listen,
            feature_cache,
            checkpoint_minutes,
            slots,
            keep_workers,
            patience,
            lost_after,
            stalled_after,
            worker_url,
            executor,
            slurm,
            insecure,
        } = args;
        if !listen.ip().is_loopback() && !insecure {
            return Err(format!(
                "--listen {listen} can be reached from other machines, and there are no accounts yet: everyone who reaches it \
                 could read and delete everything; listen on 127.0.0.1, or add --insecure if something in front of it asks \
                 who is there"
            ));
        }
        if executor.any_slurm() && worker_listen.ip().is_unspecified() && worker_url.is_none() {
            return Err(format!(
                "--executor slurm: jobs cannot find the server at {worker_listen}; add --worker-url http://HOST:{}, with a \
                 name of this machine that the nodes know",
                worker_listen.port()
            ));
        }
        let feature_cache_bytes = u64::from(feature_cache) << 30;
        let checkpoint_every = Duration::from_secs(60 * u64::from(checkpoint_minutes));
        if lost_after <= patience {
            return Err(format!(
                "--lost-after {lost_after} is not more than --patience {patience}: a process that looks for the server would \
                 be given up"
            ));
        }
        let [patience, lost_after, stalled_after] =
            [patience, lost_after, stalled_after].map(|seconds| Duration::from_secs(seconds.into()));
        let limits = Limits { lost_after, stalled_after, patience };
        Ok(Self {
            listen,
            worker_listen,
            data,
            feature_cache_bytes,
            checkpoint_every,
            slots,
            limits,
            keep_workers,
            worker_url,
            executors: executor,
            slurm,
            insecure,
        })
    }
}

/// An address of HTTP, without the slash at its end.
fn worker_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
        url.scheme() == "http" && url.has_host() && plain
    });
    let url =
        url.ok_or_else(|| format!("“{text}” is not an address such as http://head:8081; workers speak HTTP alone"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`; of a name's several addresses an IPv4 one is preferred.
fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("“{text}” is not an address with a port, such as 127.0.0.1:8080");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with(':') {
        return Err(wrong());
    }
    let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| wrong())?.collect();
    addresses.iter().copied().find(SocketAddr::is_ipv4).or(addresses.first().copied()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(args: &[&str]) -> Result<Config, String> {
        let line = Line::try_parse_from([&["serve"], args].concat()).map_err(|error| error.to_string())?;
        line.serve.try_into()
    }

    #[test]
    fn only_loopback_is_served_unless_insecure_is_said() {
        assert!(config(&["--listen", "127.0.0.1:0"]).is_ok());
        assert!(config(&["--listen", "[::1]:80"]).is_ok());
        for open in ["0.0.0.0:8080", "192.168.1.4:8080", "[::]:8080"] {
            assert!(config(&["--listen", open]).unwrap_err().contains("there are no accounts yet"), "{open}");
            assert_eq!(config(&["--listen", open, "--insecure"]).unwrap().listen, open.parse().unwrap());
        }
    }

    #[test]
    fn jobs_of_a_cluster_are_told_where_the_server_is() {
        let slurm = ["--executor", "slurm", "--worker-listen", "0.0.0.0:8081"];
        assert!(config(&slurm).unwrap_err().contains("add --worker-url http://HOST:8081"));
        let config = |extra: &[&str]| config(&[&slurm, extra].concat());
        let told = config(&["--worker-url", "http://head:8081/", "--slurm", "partition=gpu,--exclusive"]).unwrap();
        assert_eq!(told.worker_url.as_deref(), Some("http://head:8081"));
        assert_eq!(told.slurm.to_string(), "partition=gpu,--exclusive");
        for wrong in ["head:8081", "https://head:8081", "http://", "http://head/?a=b", "http://me:secret@head"] {
            assert!(config(&["--worker-url", wrong]).unwrap_err().contains("is not an address such as"), "{wrong}");
        }
        let ours = config(&["--worker-url", "http://head", "--slurm=--export=ALL"]).unwrap_err();
        assert!(ours.contains("Twograin sets --export itself"), "{ours}");
    }

    #[test]
    fn addresses_are_parsed_at_the_edge() {
        assert_eq!(config(&["--listen", "localhost:81"]).unwrap().listen.to_string(), "127.0.0.1:81");
        for wrong in ["8080", ":8080", "127.0.0.1", "127.0.0.1:http"] {
            assert!(config(&["--listen", wrong]).unwrap_err().contains("is not an address with a port"), "{wrong}");
        }
    }
}
