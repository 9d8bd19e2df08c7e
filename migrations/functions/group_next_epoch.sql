-- The epoch of what is assigned now: above every one that this group ever had, and in step with
-- the database's clock. The caller holds the group's lock.
create or replace function postrider.group_next_epoch(of_group bigint)
returns bigint language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  next_epoch bigint;
begin
  update groups g set
    last_epoch = greatest(g.last_epoch + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
    version = g.version + 1
  where g.group_id = of_group
  returning g.last_epoch into next_epoch;
  return next_epoch;
end
$$;
