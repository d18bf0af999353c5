-- Which runs form a group follows from their specifications as they are read: fields that a later version added have their
-- defaults there, and a text written before would not.
alter table run drop column spec_group;
