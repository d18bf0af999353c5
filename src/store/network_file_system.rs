//! WAL needs memory shared between processes, which network file systems do not give: a database there is refused.

use std::path::Path;

use crate::error::{Error, Result};

const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "fuse.sshfs",
    "ncpfs",
];

/// Refuses a database file on a network file system. Where the system does not tell (no `/proc`), it is let pass.
pub fn refuse(database: &Path) -> Result<()> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let directory = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    match file_system(&mounts, &directory) {
        Some(kind) if NETWORK.contains(&kind) => Err(Error::Invalid(format!(
            "the database {} is on a network file system ({kind}), where SQLite can lose data; keep it on a local disk with \
             --database FILE (scores and weights may stay where they are)",
            database.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The type of the file system that holds `directory`, from the text of `/proc/self/mountinfo`: the deepest mount point
/// above it, and of several at the same place the latest.
fn file_system<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?.replace("\\040", " ");
            let depth = Path::new(&point).components().count();
            directory.starts_with(&point).then_some((depth, after.split(' ').next()?))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:41 / /home/me/fast\\040disk rw shared:3 - xfs /dev/vdb rw
";

    #[test]
    fn the_deepest_mount_point_decides() {
        assert_eq!(file_system(MOUNTS, Path::new("/srv")), Some("ext4"));
        assert_eq!(file_system(MOUNTS, Path::new("/home/me")), Some("nfs4"));
        assert_eq!(file_system(MOUNTS, Path::new("/home/me/fast disk/x")), Some("xfs"));
        assert_eq!(file_system(MOUNTS, Path::new("/homes")), Some("ext4"));
    }
}
