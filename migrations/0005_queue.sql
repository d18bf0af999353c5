-- Higher goes first, then who came first. It decides nothing about the outcome, so it is not in the specification.
alter table run add column priority integer not null default 0 check (priority between -100 and 100);

create index run_by_turn on run (priority desc, id) where status = 'queued';

-- What holds for the queue as a whole: one row.
create table queue (
    id      integer primary key check (id = 1),
    -- Nothing new starts.
    paused  integer not null default 0 check (paused in (0, 1))
) strict;

insert into queue (id) values (1);

-- Runs submitted together. A run that was there already belongs to each sweep that was answered by it.
create table sweep (
    id            integer primary key autoincrement,
    name          text not null,
    submitted_at  text not null
) strict;

create table sweep_run (
    sweep_id  integer not null references sweep (id) on delete cascade,
    run_id    integer not null references run (id) on delete cascade,
    primary key (sweep_id, run_id)
) strict, without rowid;

create index sweep_run_by_run on sweep_run (run_id, sweep_id);

create trigger sweep_goes_with_its_last_run after delete on sweep_run
when not exists (select 1 from sweep_run where sweep_id = old.sweep_id)
begin
    delete from sweep where id = old.sweep_id;
end;
