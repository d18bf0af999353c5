-- What people say of images, whatever run they looked at, and the views they keep.
create table image_tag (
    image_id  integer not null references image (id) on delete cascade,
    tag       text not null check (length(tag) between 1 and 40),
    primary key (image_id, tag)
) strict, without rowid;

create index image_tag_by_tag on image_tag (tag, image_id);

create table image_note (
    image_id    integer primary key references image (id) on delete cascade,
    text        text not null check (length(text) between 1 and 4000),
    updated_at  text not null
) strict;

-- A page of this program with all that its address holds.
create table saved_view (
    id          integer primary key autoincrement,
    name        text not null unique check (length(name) between 1 and 80),
    address     text not null check (address like '/%' and length(address) <= 2000),
    created_at  text not null
) strict;
