-- What the run's jobs ask of a Slurm cluster, where they run on one; null if nothing is asked.
alter table run add column slurm text check (slurm is null or json_valid(slurm));
