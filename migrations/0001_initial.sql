-- Everything that is searched. Scores and weights are files in the attempts' directories, known here by path and hash.
-- Times are RFC 3339 in UTC.

create table dataset (
    id               integer primary key,
    name             text not null unique check (length(name) between 1 and 80),
    -- Drawn, not photographed: pages say so.
    drawn            integer not null check (drawn in (0, 1)),
    labels_only      integer not null check (labels_only in (0, 1)),
    taxonomy         text not null check (json_valid(taxonomy)),
    train_directory  text,
    test_directory   text,
    train_funnel     text not null check (json_valid(train_funnel)),
    test_funnel      text not null check (json_valid(test_funnel)),
    -- Of the test set: runs are comparable iff theirs is equal.
    fingerprint      text not null,
    created_at       text not null,
    check (labels_only = (train_directory is null)),
    check (labels_only = (test_directory is null))
) strict;

create table image (
    -- Never used twice: thumbnails are kept by it.
    id          integer primary key autoincrement,
    dataset_id  integer not null references dataset (id) on delete cascade,
    split       text not null check (split in ('train', 'test')),
    -- The id in the annotations, unique within a split.
    source_id   integer not null,
    file_name   text not null,
    width       integer not null check (width >= 0),
    height      integer not null check (height >= 0),
    coarse      integer not null check (coarse >= 0),
    unique (dataset_id, split, source_id)
) strict;

create table image_label (
    image_id  integer not null references image (id) on delete cascade,
    fine      integer not null check (fine >= 0),
    primary key (image_id, fine)
) strict, without rowid;

create index image_label_by_fine on image_label (fine, image_id);

create table run (
    id                integer primary key autoincrement,
    -- A data set with runs cannot be deleted.
    dataset_id        integer not null references dataset (id),
    name              text not null,
    tags              text not null check (json_valid(tags)),
    note              text not null,
    spec              text not null check (json_valid(spec)),
    -- The specification without seed and threads: runs that agree in it form a group.
    spec_group        text not null,
    backbone          text not null generated always as (spec ->> 'backbone') virtual,
    objective         text not null generated always as (spec ->> 'objective') virtual,
    status            text not null check (status in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    attempt_id        integer references attempt (id),
    cancel_requested  integer not null default 0 check (cancel_requested in (0, 1)),
    error             text,
    submitted_at      text not null,
    started_at        text,
    finished_at       text,
    check ((status = 'running') = (attempt_id is not null)),
    check ((status in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)),
    check ((status = 'failed') = (error is not null))
) strict;

create index run_by_status on run (status, id);
create index run_by_dataset on run (dataset_id, id);

-- One try at executing a run. Every write of a worker is fenced by its attempt.
create table attempt (
    id            integer primary key autoincrement,
    run_id        integer not null references run (id) on delete cascade,
    number        integer not null check (number >= 1),
    -- SHA-256 of the worker's token.
    token_hash    text not null,
    -- Where it keeps scores and weights, relative to the data directory.
    directory     text not null,
    progress      text check (progress is null or json_valid(progress)),
    heartbeat_at  text not null,
    started_at    text not null,
    ended_at      text,
    -- Why it ended, in words.
    exit          text,
    unique (run_id, number),
    check ((ended_at is null) = (exit is null))
) strict;

create table epoch (
    attempt_id                  integer not null references attempt (id) on delete cascade,
    epoch                       integer not null check (epoch >= 1),
    train_loss                  real not null,
    validation_loss             real,
    validation_ia               real,
    validation_coarse_accuracy  real,
    learning_rate               real not null,
    seconds                     real not null,
    primary key (attempt_id, epoch)
) strict, without rowid;

create table log_line (
    id          integer primary key,
    attempt_id  integer not null references attempt (id) on delete cascade,
    at          text not null,
    text        text not null
) strict;

create index log_line_by_attempt on log_line (attempt_id, id);

-- What a succeeded attempt left: scores of each split, weights.
create table artifact (
    run_id  integer not null references run (id) on delete cascade,
    kind    text not null check (kind in ('scores-test', 'scores-validation', 'weights')),
    -- Relative to the data directory.
    path    text not null,
    sha256  text not null check (length(sha256) = 64),
    primary key (run_id, kind)
) strict, without rowid;

-- What a run decided for each image under its own rule. A coarse-only run decides no fine label.
create table outcome (
    run_id            integer not null references run (id) on delete cascade,
    image_id          integer not null references image (id),
    split             text not null check (split in ('validation', 'test')),
    fine_correct      integer check (fine_correct in (0, 1)),
    coarse_correct    integer not null check (coarse_correct in (0, 1)),
    predicted_coarse  integer not null check (predicted_coarse >= 0),
    primary key (run_id, split, image_id)
) strict, without rowid;

-- Without it, each image of a data set that is deleted would be looked for among all outcomes.
create index outcome_by_image on outcome (image_id);

-- The outcomes of a split, counted once when they are written.
create table tally (
    run_id          integer not null references run (id) on delete cascade,
    split           text not null check (split in ('validation', 'test')),
    images          integer not null,
    coarse_correct  integer not null,
    ftct            integer,
    ftcf            integer,
    ffct            integer,
    ffcf            integer,
    primary key (run_id, split),
    check (coarse_correct between 0 and images),
    -- All four or none: a coarse-only run has none.
    check ((ftct is null) = (ftcf is null) and (ftct is null) = (ffct is null) and (ftct is null) = (ffcf is null)),
    check (ftct is null or (ftct + ftcf + ffct + ffcf = images and ftct + ffct = coarse_correct))
) strict, without rowid;
