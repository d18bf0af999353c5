//! Servers and controllers that go away while jobs wait and run, with stand-ins for Slurm's commands.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread, time::Duration};

use super::{cancel, endless, exit, report, training, until};
use crate::support::{Launch, TestServer};

/// Jobs wait as long as there is a file `hold`, and nothing answers as long as there is a file `away`.
const COMMANDS: [(&str, &str); 4] = [
    (
        "sbatch",
        r#"for option; do case $option in --output=*) log=${option#--output=};; esac; done
        job=$(($(ls script.* 2>/dev/null | wc -l) + 1)); cat > script.$job
        setsid sh -c 'while [ -e hold ]; do sleep 0.1; done
            SLURM_JOB_ID=$1 sh -c "echo \$\$ > pid.$1; exec sh script.$1" >> "$2" 2>&1; echo $? > end.$1' sh $job "$log" \
            > /dev/null 2>&1 < /dev/null &
        echo $job"#,
    ),
    (
        "squeue",
        r#"for script in script.*; do
            job=${script#script.}; state=PENDING; [ -e pid.$job ] && state=RUNNING; [ -e end.$job ] && state=COMPLETED
            echo "$job|$state|Resources"
        done"#,
    ),
    (
        "scontrol",
        r#"code=$(cat end.$3 2> /dev/null); state=FAILED; [ "$code" = 0 ] && state=COMPLETED; [ "$code" ] || state=RUNNING
        echo "JobState=$state ExitCode=${code:-0}:0""#,
    ),
    (
        "scancel",
        r#"for job; do :; done
        case "$*" in *KILL*) kill -KILL $(cat pid.$job);; *TERM*) kill -TERM $(cat pid.$job);; esac; true"#,
    ),
];

/// A cluster of one machine in a directory, and servers that use it and give up soon.
fn cluster(directory: &Path) -> Launch {
    for (name, body) in COMMANDS {
        let start = "cd \"$(dirname \"$0\")\"; [ -e away ] && echo Unable to contact the controller >&2 && exit 1";
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = --version ] && exit\n{start}\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let launch = Launch::with(&["--executor", "slurm", "--patience", "2", "--lost-after", "4"]);
    Launch { environment: vec![("PATH".into(), path)], ..launch }
}

#[test]
fn a_job_outlives_its_server_and_is_watched_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::with_scenes_and(cluster(directory.path()));
    let run = server.submit(&endless());
    training(&server, run, 1);
    let workers = server.workers();
    let server = server.crash_and_restart();
    // Longer than one that nobody watches is left alone.
    thread::sleep(Duration::from_secs(5));
    training(&server, run, 1);
    assert_eq!(server.workers(), workers);
    cancel(&server, run);
    assert_eq!(server.wait(run)["status"], "canceled");
    until("a worker is left over", || server.workers().is_empty().then_some(()));
}

#[test]
fn a_job_that_waits_loses_nothing_by_a_controller_or_a_server_that_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("hold"), "").unwrap();
    let mut server = TestServer::with_scenes_and(cluster(directory.path()));
    let run = server.submit(&endless());
    until("it does not wait", || {
        report(&server, run)["progress"]["phase"].as_str()?.starts_with("waits in the cluster's queue").then_some(())
    });
    fs::write(file("away"), "").unwrap();
    thread::sleep(Duration::from_secs(7));
    fs::remove_file(file("away")).unwrap();
    let waits = report(&server, run);
    assert!(waits["attempts"].as_array().unwrap().len() == 1 && waits["attempts"][0]["exit"].is_null(), "{waits:#}");
    // Its turn comes while no server is there.
    server.crash();
    fs::remove_file(file("hold")).unwrap();
    until("the job does not end", || file("end.1").exists().then_some(()));
    let server = server.restart();
    assert!(exit(&server, run, 1).starts_with("the server was not to be found for 2 s"), "{:#}", report(&server, run));
    training(&server, run, 2);
}
