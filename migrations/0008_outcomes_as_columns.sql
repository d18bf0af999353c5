-- What a run decided for the images of a split, as one column: 1 if the category is right, plus 2 if the fine labels are (a
-- coarse-only run decides none), one byte per image in the order of the images' source ids. A row for each image of each run
-- took a hundred times the space and was read whole anyway; what else is asked of an image follows from the run's scores.
create table judgements (
    run_id  integer not null references run (id) on delete cascade,
    split   text not null check (split in ('validation', 'test')),
    bytes   blob not null,
    primary key (run_id, split)
) strict;

insert into judgements (run_id, split, bytes)
select run_id, outcome.split, unhex(group_concat('0' || (coarse_correct + 2 * coalesce(fine_correct, 0)), '' order by source_id))
from outcome join image on image.id = outcome.image_id
group by run_id, outcome.split;

drop table outcome;
