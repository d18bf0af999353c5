-- By what an attempt's worker is found again when the server has restarted, and where it runs.
alter table attempt add column executor text not null default 'local' check (executor in ('local', 'slurm'));
-- A process as "number:start time", or a job's number. Unknown until the worker was started.
alter table attempt add column handle text;
alter table attempt add column host text;
-- When it last got further. The heartbeat says that its worker is there; this says that it works.
alter table attempt add column progressed_at text;
-- Attempts in a row that were lost without getting further than one before them, and how far the furthest got, 0 to 1.
alter table run add column lost integer not null default 0 check (lost >= 0);
alter table run add column furthest real not null default 0;
-- Attempts write their log to a file; the lines of those from before are still here.
