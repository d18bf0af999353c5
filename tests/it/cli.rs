//! The command line, as a user's shell sees it.

use std::{path::Path, process::Output};

mod data_directory;
mod queue;
mod server;
mod sweeps;
mod talks;
mod waits;

/// What a command did.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `twograin` in `directory`, without whatever the tester's environment says.
fn twograin_in(directory: &Path, args: &[&str]) -> Done {
    done(crate::support::twograin().current_dir(directory).args(args).output())
}

fn done(output: std::io::Result<Output>) -> Done {
    let output = output.expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn twograin(args: &[&str]) -> Done {
    twograin_in(&std::env::temp_dir(), args)
}

#[test]
fn every_command_and_every_flag_has_a_help() {
    fn visit(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no description");
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 8 || arg.is_hide_set(), "{path} {}: no help", arg.get_id());
        }
        for sub in command.get_subcommands() {
            visit(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    visit(&twograin::cli::command(), "twograin");

    for path in [
        "",
        "serve",
        "demo",
        "dataset",
        "dataset import-coco",
        "weights fetch",
        "run",
        "run submit",
        "run list",
        "run wait",
        "predict",
        "experiment paper",
    ] {
        let args: Vec<&str> = path.split_whitespace().chain(["--help"]).collect();
        let done = twograin(&args);
        assert_eq!(done.code, Some(0), "{path}");
        assert!(done.out.contains("Usage: twograin"), "{path}: {}", done.out);
        assert!(!done.out.contains("worker --server"), "the worker is the server's business");
    }
    let help = twograin(&["--help"]).out;
    for part in ["Exit codes:", "TWOGRAIN_DATA_DIR", "[default: 127.0.0.1:8080]", "--insecure", "predict"] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [&["dataset", "lst"][..], &["--port", "80"], &["run", "show", "seven"], &["predict", "--run", "1"]] {
        let done = twograin(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.err);
        assert!(done.err.starts_with("error: ") && done.out.is_empty(), "{args:?}: {}", done.err);
    }
    let done = twograin(&["run", "list", "--server", "https://example.org"]);
    assert_eq!((done.code, done.err.contains("only http://")), (Some(2), true), "{}", done.err);
}

#[test]
fn an_address_that_others_reach_is_refused_with_the_reason() {
    for command in
        [&["--listen", "0.0.0.0:0"][..], &["serve", "--listen", "0.0.0.0:0"], &["demo", "--listen", "[::]:0"]]
    {
        let done = twograin(command);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.contains("there are no accounts yet") && done.err.lines().count() == 1, "{}", done.err);
    }
}
