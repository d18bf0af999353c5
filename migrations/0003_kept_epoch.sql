-- The epoch whose weights a succeeded run left, from 1. Runs from before kept their last one.
alter table run add column kept_epoch integer check (kept_epoch is null or kept_epoch >= 1);
