-- What changed since when, for whoever follows the runs. Each change of a run gives it the next revision, and so does its
-- deletion: whoever knows how far he has heard is told the rest, in that order, also after a restart.

create table revision (
    only       integer primary key check (only = 1),
    -- The latest one.
    value      integer not null,
    -- The latest deletion that is not remembered any more.
    forgotten  integer not null default 0 check (forgotten <= value),
    -- Tells this database from others, whose revisions mean something else.
    database   text not null
) strict;

alter table run add column revision integer not null default 0;
update run set revision = id;
create index run_by_revision on run (revision);

insert into revision (only, value, database)
select 1, coalesce(max(id), 0), lower(hex(randomblob(4))) from run;

-- Runs that are no more.
create table deleted_run (
    revision  integer primary key,
    run_id    integer not null
) strict;

create trigger run_is_new after insert on run begin
    update revision set value = value + 1;
    update run set revision = (select value from revision) where id = new.id;
end;

-- Whatever is changed, now or by later columns. What a trigger does here changes the revision itself, and so ends here.
create trigger run_changes after update on run when new.revision = old.revision begin
    update revision set value = value + 1;
    update run set revision = (select value from revision) where id = new.id;
end;

create trigger run_gets_on after update of progress on attempt begin
    update revision set value = value + 1;
    update run set revision = (select value from revision) where id = new.run_id;
end;

create trigger run_has_an_epoch after insert on epoch begin
    update revision set value = value + 1;
    update run set revision = (select value from revision)
    where id = (select run_id from attempt where id = new.attempt_id);
end;

create trigger run_is_deleted after delete on run begin
    update revision set value = value + 1;
    insert into deleted_run (revision, run_id) select value, old.id from revision;
    -- The last ten thousand are remembered.
    update revision set forgotten =
        coalesce((select revision from deleted_run order by revision desc limit 1 offset 10000), forgotten);
    delete from deleted_run where revision <= (select forgotten from revision);
end;
