//! Why a command did not do what it was asked to.

use std::{error::Error as StdError, fmt, process::ExitCode};

use crate::error::Error;

/// A failure, said in one plain line.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// It was right, and it did not work.
    Failed(String),
}

impl Failure {
    /// 2 for a wrong command line, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }

    /// A failure with the chain of causes behind `error`.
    pub fn because(context: impl fmt::Display, error: &(dyn StdError + 'static)) -> Self {
        Self::Failed(format!("{context}: {}", chain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(message) | Self::Failed(message)) = self;
        f.write_str(message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(chain(&error))
    }
}

/// The error and its causes, parted by colons. A cause whose text the one before it already has is left out.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_once() {
        let io = std::io::Error::other("disk full");
        let error = Error::internal("the scores cannot be written", io);
        assert_eq!(Failure::from(error).to_string(), "the scores cannot be written: disk full");
        let wrapped = Error::internal("it broke: disk full", std::io::Error::other("disk full"));
        assert_eq!(Failure::from(wrapped).to_string(), "it broke: disk full");
        assert_eq!(Failure::from(Error::NotFound("no run 7".into())).to_string(), "no run 7");
    }
}
