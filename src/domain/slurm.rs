//! What a run asks of a Slurm cluster, or a server for all of its runs: partition, memory, time limit, …

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What is asked of Slurm; nothing, by default. Every value has the form that Slurm takes. As text:
/// `partition=main,time=2:00:00,memory=16G,gres=gpu:1,--qos=high`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct SlurmOptions(Fields);

/// The fields of [`SlurmOptions`], as they stand in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// Partitions of which one is taken, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Who is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Generic resources, such as `gpu:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// Memory of the job's node, such as `16G`; without a unit, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The time limit: minutes, `hours:minutes:seconds` or `days-hours`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Processors; without them, as many as the run has threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<usize>,
    /// Further options of `sbatch`, each as `--name=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Options of `sbatch` that a run may be given: they say where it runs, and neither what, nor as whom, nor which files are
/// touched. They come from whoever may submit a run.
const ALLOWED: &[&str] = &[
    "begin",
    "comment",
    "constraint",
    "cpus-per-gpu",
    "exclude",
    "gpus",
    "gpus-per-node",
    "gpus-per-socket",
    "gpus-per-task",
    "licenses",
    "mem-per-cpu",
    "mem-per-gpu",
    "nice",
    "nodelist",
    "prefer",
    "qos",
    "reservation",
    "tmp",
    "wckey",
];

/// Options that have a field of their own.
const FIELDS: &[(&str, &str)] = &[
    ("partition", "partition"),
    ("account", "account"),
    ("gres", "gres"),
    ("mem", "memory"),
    ("time", "time"),
    ("cpus-per-task", "cpus"),
];

/// Options on which starting and watching a worker depends.
const OURS: &[&str] = &[
    "array",
    "chdir",
    "error",
    "export",
    "export-file",
    "get-user-env",
    "help",
    "input",
    "job-name",
    "no-requeue",
    "ntasks",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "requeue",
    "signal",
    "test-only",
    "usage",
    "version",
    "wait",
    "wrap",
];

const MAX_OPTIONS: usize = 20;

impl SlurmOptions {
    /// Those of the server's configuration, which may have any option of `sbatch` but those that Twograin sets itself.
    pub fn of_configuration(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        check(&fields)?;
        fields.options.iter().try_for_each(|option| free(option))?;
        Ok(Self(fields))
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// With what `run` asks instead of, or besides, what is asked here.
    pub fn with(&self, run: &Self) -> Self {
        let (ours, theirs) = (self.0.clone(), run.0.clone());
        let replaced = |option: &String| theirs.options.iter().any(|theirs| name(theirs) == name(option));
        let mut options: Vec<String> = ours.options.iter().filter(|option| !replaced(option)).cloned().collect();
        options.extend(theirs.options);
        Self(Fields {
            partition: theirs.partition.or(ours.partition),
            account: theirs.account.or(ours.account),
            gres: theirs.gres.or(ours.gres),
            memory: theirs.memory.or(ours.memory),
            time: theirs.time.or(ours.time),
            cpus: theirs.cpus.or(ours.cpus),
            options,
        })
    }
}

impl std::ops::Deref for SlurmOptions {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl From<SlurmOptions> for Fields {
    fn from(options: SlurmOptions) -> Fields {
        options.0
    }
}

impl TryFrom<Fields> for SlurmOptions {
    type Error = String;

    /// Those of a run.
    fn try_from(fields: Fields) -> Result<Self, String> {
        check(&fields)?;
        fields.options.iter().try_for_each(|option| allowed(option))?;
        Ok(Self(fields))
    }
}

impl FromStr for SlurmOptions {
    type Err = String;

    /// Those of a run.
    fn from_str(text: &str) -> Result<Self, String> {
        fields(text)?.try_into()
    }
}

impl fmt::Display for SlurmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { partition, account, gres, memory, time, cpus, options } = &self.0;
        let cpus = cpus.map(|cpus| cpus.to_string());
        let named = [
            ("partition", partition),
            ("account", account),
            ("gres", gres),
            ("memory", memory),
            ("time", time),
            ("cpus", &cpus),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        f.write_str(&named.chain(options.iter().cloned()).collect::<Vec<_>>().join(","))
    }
}

/// A part without a `=` belongs to the value before it, which has commas of its own.
fn fields(text: &str) -> Result<Fields, String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim) {
        match parts.last_mut() {
            Some(last) if !part.is_empty() && !part.starts_with("--") && !part.contains('=') => {
                last.push(',');
                last.push_str(part);
            }
            Some(_) | None => parts.push(part.to_owned()),
        }
    }
    let mut fields = Fields::default();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if part.starts_with("--") {
            fields.options.push(part.clone());
            continue;
        }
        let (key, value) = part.split_once('=').ok_or_else(|| format!("“{part}” is not like time=2:00:00"))?;
        let field = match key {
            "partition" => &mut fields.partition,
            "account" => &mut fields.account,
            "gres" => &mut fields.gres,
            "memory" => &mut fields.memory,
            "time" => &mut fields.time,
            "cpus" => {
                let number = |_| format!("cpus: “{value}” is not a number of processors");
                fields.cpus = Some(value.parse().map_err(number)?);
                continue;
            }
            _ => {
                return Err(format!(
                    "“{key}” is not something to ask of Slurm; there are partition, account, gres, memory, time, cpus, \
                     and options of sbatch, such as --qos=high"
                ));
            }
        };
        *field = Some(value.to_owned());
    }
    Ok(fields)
}

/// Everything but the extra options, of which there are limits on number and size alone.
fn check(fields: &Fields) -> Result<(), String> {
    type Form = (fn(&str) -> bool, &'static str);
    let checks: [(&str, &Option<String>, Form); 5] = [
        ("partition", &fields.partition, (|text| text.split(',').all(is_name), "a partition, or several with commas")),
        ("account", &fields.account, (is_name, "an account")),
        ("gres", &fields.gres, (|text| text.split(',').all(is_gres), "like gpu:1 or gpu:a100:2")),
        ("memory", &fields.memory, (is_memory, "like 16G or 800M")),
        ("time", &fields.time, (is_time, "like 90 (minutes), 2:00:00 or 1-12 (days-hours)")),
    ];
    for (name, value, (fits, form)) in checks {
        if let Some(value) = value.as_ref().filter(|value| value.len() > 200 || !fits(value)) {
            return Err(format!("slurm: {name}: “{value}” is not {form}"));
        }
    }
    if let Some(cpus) = fields.cpus.filter(|cpus| !(1..=4096).contains(cpus)) {
        return Err(format!("slurm: cpus: {cpus} is outside 1 to 4096"));
    }
    if fields.options.len() > MAX_OPTIONS {
        return Err(format!("slurm: options: there are more than {MAX_OPTIONS}"));
    }
    Ok(())
}

/// An option that a run may have.
fn allowed(option: &str) -> Result<(), String> {
    free(option)?;
    let name = name(option);
    if !ALLOWED.contains(&name) {
        return Err(format!(
            "slurm: options: a run may not set --{name}; it may set {}. Others belong into the server's --slurm",
            ALLOWED.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(", ")
        ));
    }
    let value = option.split_once('=').map(|(_, value)| value).filter(|value| !value.is_empty());
    let Some(value) = value else {
        return Err(format!("slurm: options: --{name} has no value; write --{name}=value"));
    };
    // With a “/”, sbatch takes them for a file, and reads it.
    if ["nodelist", "exclude"].contains(&name) && value.contains('/') {
        return Err(format!("slurm: options: --{name}: “{value}” is a file; write the names of the nodes"));
    }
    Ok(())
}

/// An option that is not one of Twograin's own.
fn free(option: &str) -> Result<(), String> {
    if !option.starts_with("--") || option.len() > 500 || option.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("slurm: options: “{option}” is not like --qos=high, in one piece"));
    }
    let name = name(option);
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(format!("slurm: options: “{option}” is not like --qos=high, in one piece"));
    }
    if let Some((_, field)) = FIELDS.iter().find(|(long, _)| is_short_for(name, long)) {
        return Err(format!("slurm: options: instead of --{name}, write {field}=…"));
    }
    if OURS.iter().any(|ours| is_short_for(name, ours)) {
        return Err(format!("slurm: options: Twograin sets --{name} itself; leave it out"));
    }
    Ok(())
}

/// sbatch takes the beginning of a name for the name, unless there is another one that it is exactly.
fn is_short_for(name: &str, long: &str) -> bool {
    long == name || (long.starts_with(name) && !ALLOWED.contains(&name))
}

/// Of `--name=value`.
fn name(option: &str) -> &str {
    let option = option.trim_start_matches("--");
    option.split_once('=').map_or(option, |(name, _)| name)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.+@:".contains(c))
}

fn is_gres(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.split(':').count() <= 3
        && text.split(':').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.')
        })
}

fn is_memory(text: &str) -> bool {
    is_number(text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text))
}

/// Minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds.
fn is_time(text: &str) -> bool {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    is_number(days) && rest.split(':').count() <= 3 && rest.split(':').all(is_number)
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_slurm_are_read_and_written_alike() {
        let text = "partition=main,urgent,account=lab,gres=gpu:a100:2,memory=16G,time=1-12:30,cpus=8,--qos=high,\
                    --nodelist=n[1-2,5]";
        let options: SlurmOptions = text.parse().unwrap();
        assert_eq!((options.partition.as_deref(), options.cpus), (Some("main,urgent"), Some(8)));
        assert_eq!(options.options, ["--qos=high", "--nodelist=n[1-2,5]"]);
        assert_eq!(options.to_string(), text);
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<SlurmOptions>(&json).unwrap(), options);
        assert!("".parse::<SlurmOptions>().unwrap().is_empty());
        for time in ["90", "90:30", "2:00:00", "1-12", "1-12:30", "1-12:30:10"] {
            assert!(format!("time={time}").parse::<SlurmOptions>().is_ok(), "{time}");
        }
    }

    #[test]
    fn what_slurm_would_not_take_is_named() {
        for (text, says) in [
            ("time=soon", "slurm: time: “soon” is not like 90"),
            ("time=1:2:3:4", "slurm: time: “1:2:3:4”"),
            ("memory=16 G", "slurm: memory: “16 G” is not like 16G"),
            ("gres=gpu:", "slurm: gres: “gpu:” is not like gpu:1"),
            ("partition=-x", "slurm: partition: “-x” is not a partition"),
            ("account=a\nb", "slurm: account: “a\nb” is not an account"),
            ("cpus=0", "slurm: cpus: 0 is outside 1 to 4096"),
            ("cpus=many", "cpus: “many” is not a number"),
            ("queue=x", "“queue” is not something to ask of Slurm; there are partition"),
            ("main", "“main” is not like time=2:00:00"),
        ] {
            let error = text.parse::<SlurmOptions>().unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
        let unknown = serde_json::from_str::<SlurmOptions>(r#"{"mem":"1G"}"#).unwrap_err().to_string();
        assert!(unknown.contains("unknown field `mem`"), "{unknown}");
    }

    #[test]
    fn a_run_may_set_harmless_options_alone() {
        for (option, says) in [
            ("--uid=0", "a run may not set --uid; it may set --begin"),
            ("--mail-type=ALL", "a run may not set --mail-type"),
            ("--prolog=x", "a run may not set --prolog"),
            ("--bb=x", "a run may not set --bb"),
            ("--qo=x", "a run may not set --qo"),
            ("--output=x", "Twograin sets --output itself"),
            ("--out=x", "Twograin sets --out itself"),
            ("--export=ALL", "Twograin sets --export itself"),
            ("--wrap=x", "Twograin sets --wrap itself"),
            ("--mem=1G", "instead of --mem, write memory=…"),
            ("-o", "“-o” is not like --qos=high"),
            ("--qos=a --uid=0", "is not like --qos=high, in one piece"),
            ("--comment=a\u{7}", "is not like --qos=high"),
            ("--qos", "--qos has no value; write --qos=value"),
            ("--nodelist=./x", "--nodelist: “./x” is a file"),
            ("--", "“--” is not like"),
        ] {
            let fields = Fields { options: vec![option.into()], ..Fields::default() };
            let error = SlurmOptions::try_from(fields).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!("--qos=high,--constraint=a100&big,--gpus-per-node=2,--nice=5".parse::<SlurmOptions>().is_ok());
    }

    #[test]
    fn the_configuration_may_set_all_but_twograins_own() {
        let options = SlurmOptions::of_configuration("partition=main,--exclusive,--mail-type=FAIL").unwrap();
        assert_eq!(options.options, ["--exclusive", "--mail-type=FAIL"]);
        for ours in ["--no-requeue", "--signal=9", "--array=1-3", "--chdir=x", "--job-name=x", "--wait", "--parsable"] {
            let error = SlurmOptions::of_configuration(ours).unwrap_err();
            assert!(error.contains("Twograin sets"), "{error}");
        }
    }

    #[test]
    fn a_run_goes_over_the_configuration() {
        let server = SlurmOptions::of_configuration("partition=main,time=60,--exclusive,--qos=low").unwrap();
        let merged = server.with(&"time=5,memory=1G,--qos=high".parse().unwrap());
        assert_eq!(merged.to_string(), "partition=main,memory=1G,time=5,--exclusive,--qos=high");
        assert_eq!(server.with(&SlurmOptions::default()), server);
    }
}
