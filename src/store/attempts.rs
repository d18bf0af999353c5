//! Attempts as they are read, and their logs: a file beside each attempt's directory, which the worker and the server append to.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{Store, files::blocking};
use crate::{
    domain::{AttemptId, LogLine, RunId},
    error::Result,
    worker,
};

/// How much of the end of a log is read for its last lines.
const TAIL: u64 = 64 << 10;

/// One try at a run, as recorded.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// Counted from 1 within the run.
    pub number: i64,
    /// `local` or `slurm`.
    pub executor: String,
    /// By what the executor finds its worker: a process, a job.
    pub handle: Option<String>,
    /// The machine's name.
    pub host: Option<String>,
    /// RFC 3339: when its worker was last known to be there.
    pub heartbeat_at: String,
    /// RFC 3339: when it last got further.
    pub progressed_at: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Why it ended, in words.
    pub exit: Option<String>,
    /// Relative to the data directory.
    directory: String,
}

impl Store {
    /// The attempts at a run, oldest first.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>> {
        Ok(sqlx::query_as!(
            AttemptRow,
            "select number, executor, handle, host, heartbeat_at, progressed_at, started_at, ended_at, exit, directory
             from attempt where run_id = ? order by number",
            run.0
        )
        .fetch_all(&self.reader)
        .await?)
    }

    /// Where an attempt's log is. The file may be missing.
    pub async fn log_file(&self, attempt: AttemptId) -> Result<PathBuf> {
        Ok(log_file(&self.attempt_directory(attempt).await?))
    }

    /// Adds a line of the server's own to an attempt's log. One that cannot be written is lost.
    pub async fn note(&self, attempt: AttemptId, text: &str, now: Timestamp) {
        let (file, line) = (self.log_file(attempt).await, worker::line(text, now));
        let written = match file {
            Ok(file) => blocking(move || append(&file, &line)).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a line of a log was not written: {text}"),
            Err(error) => tracing::warn!(error = ?error, "a line of a log was not written: {text}"),
        }
    }

    /// The lines at the end of an attempt's log that are not ours, such as what a library said before it aborted.
    pub async fn last_words(&self, attempt: AttemptId) -> Result<Vec<String>> {
        let file = self.log_file(attempt).await?;
        let text = blocking(move || tail(&file)).await?;
        // What Rust says after each panic tells nothing about this one.
        let tells = |line: &&str| !line.trim().is_empty() && !line.starts_with("note: ");
        let last: Vec<_> = text.lines().rev().take_while(|line| stamp(line).is_none()).filter(tells).collect();
        Ok(last.into_iter().rev().map(|line| line.trim_end().to_owned()).collect())
    }

    /// The last `limit` lines of a run's log, oldest first.
    pub async fn log(&self, run: RunId, limit: usize) -> Result<Vec<LogLine>> {
        let files = self.log_files(run).await?;
        let mut lines = blocking(move || last_lines(&files, limit)).await?;
        let missing = i64::try_from(limit - lines.len().min(limit)).unwrap_or(i64::MAX);
        let mut older = self.older_log(run, missing).await?;
        older.append(&mut lines);
        Ok(older)
    }

    /// The whole log of a run as text.
    pub async fn whole_log(&self, run: RunId) -> Result<Vec<u8>> {
        let (older, files) = (self.older_log(run, i64::MAX).await?, self.log_files(run).await?);
        blocking(move || {
            let mut text: Vec<u8> =
                older.into_iter().flat_map(|line| format!("{} {}\n", line.at, line.text).into_bytes()).collect();
            for (number, file) in (1..).zip(files) {
                // A log that is gone is empty.
                if let Ok(mut log) = std::fs::read(&file) {
                    text.extend(format!("== attempt {number}\n").into_bytes());
                    text.append(&mut log);
                }
            }
            text
        })
        .await
    }

    async fn log_files(&self, run: RunId) -> Result<Vec<PathBuf>> {
        let attempts = self.attempts(run).await?;
        Ok(attempts.iter().map(|attempt| log_file(&self.data_dir.join(&attempt.directory))).collect())
    }

    /// Lines from before logs were files, oldest first.
    async fn older_log(&self, run: RunId, limit: i64) -> Result<Vec<LogLine>> {
        let mut lines = sqlx::query_as!(
            LogLine,
            "select log_line.at, log_line.text from log_line join attempt on attempt.id = log_line.attempt_id
             where attempt.run_id = ? order by log_line.id desc limit ?",
            run.0,
            limit
        )
        .fetch_all(&self.reader)
        .await?;
        lines.reverse();
        Ok(lines)
    }
}

fn log_file(attempt_directory: &Path) -> PathBuf {
    attempt_directory.with_extension("log")
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

/// The end of a file, from the beginning of a line; nothing of one that cannot be read.
fn tail(file: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(file)?;
        let skipped = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        let first = bytes.iter().position(|byte| *byte == b'\n').filter(|_| skipped > 0);
        Ok(bytes.split_off(first.map_or(0, |newline| newline + 1)))
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn last_lines(files: &[PathBuf], limit: usize) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for file in files.iter().rev() {
        let (mut at, text) = (String::new(), tail(file));
        let mut of_file: Vec<LogLine> = text.lines().map(|line| parse(line, &mut at)).collect();
        of_file.append(&mut lines);
        lines = of_file;
        if lines.len() >= limit {
            break;
        }
    }
    lines.split_off(lines.len().saturating_sub(limit))
}

/// A line without a time, as libraries write them, has that of the line before.
fn parse(line: &str, at: &mut String) -> LogLine {
    let text = match stamp(line) {
        Some((time, text)) => {
            *at = time.to_owned();
            text
        }
        None => line,
    };
    LogLine { at: at.clone(), text: text.to_owned() }
}

fn stamp(line: &str) -> Option<(&str, &str)> {
    line.split_once(' ').filter(|(time, _)| time.parse::<Timestamp>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_attempts_and_of_libraries_stand_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let files = [1, 2, 3].map(|number| directory.path().join(format!("attempt-{number}.log")));
        std::fs::write(&files[0], "2026-01-02T03:04:05.000Z one\nmemory allocation failed\n").unwrap();
        // The second attempt left none. The third one's is long.
        let long: String = (0..9000).map(|line| format!("2026-01-02T03:05:00.000Z line {line}\n")).collect();
        std::fs::write(&files[2], &long).unwrap();
        let of = |files: &[PathBuf], limit| last_lines(files, limit);
        let first = of(&files[..2], 10);
        assert_eq!(first.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["one", "memory allocation failed"]);
        assert!(first.iter().all(|line| line.at == "2026-01-02T03:04:05.000Z"));
        let last = of(&files, 3);
        assert_eq!(last.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["line 8997", "line 8998", "line 8999"]);
        // A whole line is the first one that is read.
        assert!(of(&files, 100_000).iter().skip(2).all(|line| line.text.starts_with("line ")));
    }
}
