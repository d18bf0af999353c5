//! How many runs may run at once.

use std::{collections::BTreeMap, str::FromStr};

use crate::domain::spec::Device;

/// Runs that may run at once on each device; one where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots(BTreeMap<Device, usize>);

impl Slots {
    /// For one device.
    pub fn of(&self, device: Device) -> usize {
        self.0.get(&device).copied().unwrap_or(1)
    }

    /// Devices on which none may start, when so many run on each.
    pub(super) fn full(&self, running: impl Iterator<Item = Device>) -> Vec<Device> {
        let mut counts: BTreeMap<Device, usize> = self.0.keys().map(|device| (*device, 0)).collect();
        running.for_each(|device| *counts.entry(device).or_default() += 1);
        counts.into_iter().filter(|(device, count)| *count >= self.of(*device)).map(|(device, _)| device).collect()
    }
}

impl FromStr for Slots {
    type Err = String;

    /// `cpu=2,cuda:0=1`
    fn from_str(text: &str) -> Result<Self, String> {
        let mut slots = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let wrong = || format!("“{part}” is not like cpu=2 or cuda:0=1");
            let (device, count) = part.split_once('=').ok_or_else(wrong)?;
            let device = device.trim().parse()?;
            if slots.insert(device, count.trim().parse().map_err(|_| wrong())?).is_some() {
                return Err(format!("{device} is named twice"));
            }
        }
        Ok(Self(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_full_when_its_slots_are_taken() {
        let slots: Slots = "cpu=2, cuda:1=0".parse().unwrap();
        let [cpu, first, second] = [Device::Cpu, Device::Cuda(0), Device::Cuda(1)];
        assert_eq!([cpu, first, second].map(|device| slots.of(device)), [2, 1, 0]);
        let full = |running: &[Device]| slots.full(running.iter().copied());
        assert_eq!(full(&[cpu]), [second]);
        assert_eq!(full(&[cpu, cpu, first]), [cpu, first, second]);
        assert_eq!(Slots::default().full([cpu].into_iter()), [cpu]);
    }

    #[test]
    fn what_is_wrong_with_slots_is_named() {
        for (text, says) in [
            ("cpu", "“cpu” is not like cpu=2"),
            ("cpu=x", "“cpu=x” is not like"),
            ("gpu=1", "“gpu” is not a device"),
            ("cuda=1,cuda:0=2", "cuda:0 is named twice"),
        ] {
            let error = text.parse::<Slots>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
