-- What the files of a run that has ended take, in bytes: they do not change any more, so a list of runs need not look at the
-- disk. Null until they were measured, and while the run may still write.
alter table run add column disk_bytes integer
    check (disk_bytes is null or (disk_bytes >= 0 and status in ('succeeded', 'failed', 'canceled')));

-- For the sum, and for the runs that are to be looked at.
create index run_by_disk_bytes on run (disk_bytes);
