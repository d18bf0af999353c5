//! Which executor starts the workers of which devices.

use std::str::FromStr;

use crate::domain::spec::Device;

/// What starts the workers of each class of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executors {
    /// Of runs on the processor.
    pub cpu: ExecutorKind,
    /// Of runs on GPUs.
    pub cuda: ExecutorKind,
}

/// What starts workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutorKind {
    /// The server, on its machine.
    #[default]
    Local,
    /// Slurm, as jobs of its cluster.
    Slurm,
}

impl ExecutorKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Slurm => "slurm",
        }
    }
}

impl FromStr for ExecutorKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Local, Self::Slurm]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("“{text}” is not an executor; they are local and slurm"))
    }
}

impl Executors {
    /// The one for a device.
    pub fn of(self, device: Device) -> ExecutorKind {
        match device {
            Device::Cpu => self.cpu,
            Device::Cuda(_) => self.cuda,
        }
    }

    /// Whether some workers are jobs of Slurm.
    pub fn any_slurm(self) -> bool {
        [self.cpu, self.cuda].contains(&ExecutorKind::Slurm)
    }
}

impl FromStr for Executors {
    type Err = String;

    /// `slurm`, or `cpu=local,cuda=slurm`; a class that is left out is local.
    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |name: &str| {
            name.parse::<ExecutorKind>().map_err(|_| {
                format!("“{text}” is not local, slurm, or one for each class of devices, such as cpu=local,cuda=slurm")
            })
        };
        if !text.contains('=') {
            return kind(text.trim()).map(|kind| Self { cpu: kind, cuda: kind });
        }
        let (mut cpu, mut cuda) = (None, None);
        for part in text.split(',') {
            let (class, name) = part.trim().split_once('=').unwrap_or((part, ""));
            let place = match class {
                "cpu" => &mut cpu,
                "cuda" => &mut cuda,
                _ => {
                    return Err(format!(
                        "“{class}” is not a class of devices; there are cpu and cuda, as in cpu=local,cuda=slurm"
                    ));
                }
            };
            if place.replace(kind(name)?).is_some() {
                return Err(format!("“{text}” says twice what {class} is"));
            }
        }
        Ok(Self { cpu: cpu.unwrap_or_default(), cuda: cuda.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_devices_has_its_executor() {
        let executors = |text: &str| text.parse::<Executors>();
        let (local, slurm) = (ExecutorKind::Local, ExecutorKind::Slurm);
        assert_eq!(Executors::default(), Executors { cpu: local, cuda: local });
        assert_eq!(executors("slurm"), Ok(Executors { cpu: slurm, cuda: slurm }));
        let mixed = executors("cpu=local, cuda=slurm").unwrap();
        assert_eq!((mixed.of(Device::Cpu), mixed.of(Device::Cuda(1)), mixed.any_slurm()), (local, slurm, true));
        assert_eq!(executors("cpu=slurm"), Ok(Executors { cpu: slurm, cuda: local }));
        for (wrong, says) in [
            ("pbs", "“pbs” is not local, slurm"),
            ("cpu=pbs", "is not local, slurm"),
            ("tpu=slurm", "“tpu” is not a class of devices"),
            ("cpu=local,cpu=slurm", "says twice what cpu is"),
        ] {
            let error = executors(wrong).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
