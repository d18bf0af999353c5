-- What the files of a run take is noted some time after it ended, and again by a later version: nobody waits to be told of that.
drop trigger run_changes;
create trigger run_changes after update on run
when new.revision = old.revision and (new.disk_bytes is old.disk_bytes or new.status <> old.status) begin
    update revision set value = value + 1;
    update run set revision = (select value from revision) where id = new.id;
end;
