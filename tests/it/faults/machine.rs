//! Disks that are full, databases that are locked, clocks that are set.

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use serde_json::Value;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use super::{cancel, endless, is_sound, report, short, succeeds, training, until};
use crate::support::{Launch, TestServer, twograin};

/// Starts a server in a mount namespace of its own, after `script`, in which `$DATA` is the data directory. Says so and returns
/// `None` where this user may not, unless `TWOGRAIN_REQUIRE_MOUNTS` is set.
fn in_namespace(script: &str) -> Option<Launch> {
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        assert!(std::env::var_os("TWOGRAIN_REQUIRE_MOUNTS").is_none(), "there can be no mount namespace");
        println!("skipped: this user may not make a mount namespace");
        return None;
    }
    // Of `serve --listen ADDRESS --data-dir DATA` the data directory is the fifth.
    let script = format!("DATA=$6; {script} && exec \"$@\"");
    let through = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    Some(Launch { through, ..Launch::default() })
}

/// A small disk of its own, with what was there.
const SMALL_DISK: &str = "cp -a $DATA $DATA.before && mount -t tmpfs -o size=48m tmpfs $DATA && cp -a $DATA.before/. $DATA && rm -rf $DATA.before";

#[test]
fn a_full_disk_costs_no_run_and_is_said() {
    let Some(launch) = in_namespace(SMALL_DISK) else { return };
    let server = TestServer::with_scenes_and(launch);
    // The disk as the server sees it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", server.process(), server.data.path().display()));
    let run = server.submit(&endless());
    training(&server, run, 1);
    let filler = disk.join("filler");
    let fill = || {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    until("it is not said that no checkpoint can be written", || {
        fill();
        // The log is on the full disk too: that it cannot be written must not end the worker.
        thread::sleep(Duration::from_millis(200));
        let (status, problem) = server.post("/api/v1/runs", &short(5));
        (status == 503 && problem["detail"].as_str()?.contains("the disk of the database is full")).then_some(())
    });
    // Time for several checkpoints that fail.
    thread::sleep(Duration::from_secs(8));
    let worker = server.worker(run);
    assert!(super::is_alive(worker));
    assert_eq!(report(&server, run)["status"], "running");
    is_sound(&disk);
    fs::remove_file(&filler).unwrap();
    let other = server.submit(&short(6));
    let before = report(&server, run)["progress"]["fraction"].as_f64().unwrap();
    until("it does not go on", || {
        let report = report(&server, run);
        (report["attempts"].as_array()?.len() == 1 && report["progress"]["fraction"].as_f64()? > before).then_some(())
    });
    cancel(&server, run);
    assert_eq!(server.wait(run)["status"], "canceled");
    succeeds(&server, other);
    is_sound(&disk);
}

#[test]
fn a_database_that_another_program_locks_costs_no_run_and_is_said() {
    let server = TestServer::with_scenes();
    let run = server.submit(&endless());
    training(&server, run, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteConnectOptions::new().filename(server.data.path().join("twograin.db"));
    let mut other = runtime.block_on(options.connect()).unwrap();
    let lock = runtime.block_on(other.begin_with("begin immediate")).unwrap();
    // Longer than the database waits by itself.
    let (status, problem) = server.post("/api/v1/runs", &short(5));
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("another program has locked the database"), "{problem}");
    assert_eq!(report(&server, run)["status"], "running");
    runtime.block_on(lock.rollback()).unwrap();
    let before = report(&server, run)["progress"]["fraction"].as_f64().unwrap();
    until("it does not go on", || {
        let report = report(&server, run);
        (report["attempts"].as_array()?.len() == 1 && report["progress"]["fraction"].as_f64()? > before).then_some(())
    });
    cancel(&server, run);
    let other = server.submit(&short(6));
    succeeds(&server, other);
    is_sound(server.data.path());
}

#[test]
fn a_read_only_data_directory_is_refused_with_what_to_do() {
    let Some(launch) = in_namespace("mount --bind $DATA $DATA && mount -o remount,bind,ro $DATA") else { return };
    let data = tempfile::tempdir().unwrap();
    let program = twograin();
    let output = Command::new(&launch.through[0])
        .args(&launch.through[1..])
        .arg(program.get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let says = format!("the data directory {} cannot be written: Read-only file system", data.path().display());
    assert!(!output.status.success() && error.contains(&says) && error.contains("--data-dir"), "{error}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn a_clock_that_is_set_back_ends_no_run() {
    let library =
        ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];
    let Some(library) = library.iter().find(|path| fs::exists(path).is_ok_and(|there| there)) else {
        assert!(std::env::var_os("TWOGRAIN_REQUIRE_FAKETIME").is_none(), "libfaketime is not here");
        println!("skipped: libfaketime is not here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let clock_text = clock.to_str().unwrap();
    let environment = [
        ("LD_PRELOAD", *library),
        ("FAKETIME_TIMESTAMP_FILE", clock_text),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let launch =
        Launch { environment, ..Launch::with(&["--patience", "2", "--lost-after", "4", "--stalled-after", "4"]) };
    let server = TestServer::with_scenes_and(launch);
    let run = server.submit(&endless());
    training(&server, run, 1);
    for clock_says in ["-2d", "+2d", "-3h"] {
        fs::write(&clock, clock_says).unwrap();
        // Longer than a silent worker is waited for.
        thread::sleep(Duration::from_secs(6));
        let report = report(&server, run);
        assert_eq!(
            (&report["status"], report["attempts"].as_array().unwrap().len()),
            (&"running".into(), 1),
            "{clock_says}"
        );
        assert!(report["seconds"].as_f64().unwrap() >= 0.0, "{report:#}");
    }
    cancel(&server, run);
    let canceled = server.wait(run);
    assert_eq!(canceled["status"], "canceled");
    assert!(server.page(&format!("/runs/{run}")).contains("canceled"));
    let other = server.submit(&short(1));
    let report: Value = succeeds(&server, other);
    assert_eq!(report["attempts"].as_array().unwrap().len(), 1);
    is_sound(server.data.path());
}
