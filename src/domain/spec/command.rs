//! A specification as the command that submits it.

use serde_json::Value;

use super::RunSpec;

/// The fields without a default, which stand first.
const FIRST: [&str; 3] = ["dataset", "backbone", "objective"];

impl RunSpec {
    /// The text of the specification: its JSON without spaces, in the order of its fields. Its SHA-256 identifies it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A line for a POSIX shell that submits this very specification, every field of it, so that no default is left to the
    /// version that reads it. `twograin run submit`; where the flags cannot say it, a request to the API.
    pub fn command(&self) -> String {
        // A label of the taxonomy may have a comma in its name, which parts labels in the flag.
        if self.focal_alpha.to_string().parse().as_ref() != Ok(&self.focal_alpha) {
            return format!("curl --json {} http://127.0.0.1:8080/api/v1/runs", quoted(&self.text()));
        }
        let fields = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => serde_json::Map::new(),
        };
        let mut fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| self.flag(name, value)).collect();
        fields.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
        let flags = fields.iter().map(|(name, value)| format!(" --{}={}", name.replace('_', "-"), quoted(value)));
        format!("twograin run submit{}", flags.collect::<String>())
    }

    fn flag(&self, name: String, value: Value) -> (String, String) {
        let text = match (name.as_str(), value) {
            ("focal_alpha", _) => self.focal_alpha.to_string(),
            ("unfreeze", _) => self.unfreeze.to_string(),
            (_, Value::String(text)) => text,
            (_, value) => value.to_string(),
        };
        (name, text)
    }
}

/// One word of a shell's line.
fn quoted(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@+,=".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{Backbone, FocalAlpha, Objective};

    #[test]
    fn a_command_names_every_field() {
        let spec = RunSpec::new("demo", Backbone::VggTiny, Objective::TopKSoftmax);
        let command = spec.command();
        assert!(command.starts_with(
            "twograin run submit --dataset=demo --backbone=vgg-tiny --objective=top-k-softmax --augmentation=crop-flip"
        ));
        assert!(command.contains(" --unfreeze=all ") && command.contains(" --weight-decay=0.0001"), "{command}");
        let fields: Value = serde_json::from_str(&spec.text()).unwrap();
        assert_eq!(command.matches(" --").count(), fields.as_object().unwrap().len());
    }

    #[test]
    fn what_a_flag_cannot_say_is_said_in_json() {
        let alpha = |label: &str| FocalAlpha::ByLabel([(label.to_owned(), 2.0)].into());
        let with = |label: &str| {
            let spec = RunSpec::new("d", Backbone::VggTiny, Objective::TopKSoftmax);
            spec.with(|fields| fields.focal_alpha = alpha(label)).unwrap().command()
        };
        assert!(with("hot dog").contains(" --focal-alpha='hot dog=2' "));
        assert!(with("baker's").contains(r" --focal-alpha='baker'\''s=2' "));
        assert!(with("salt, pepper").starts_with(r#"curl --json '{"dataset":"d","#));
        assert!(with("salt, pepper").contains(r#""focal_alpha":{"salt, pepper":2.0}"#));
    }
}
