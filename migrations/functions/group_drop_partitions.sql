-- A topic goes: its partitions leave every group, offsets and all. The caller has marked them as
-- deleted and holds their rows. Groups are locked in order; one that takes a partition meanwhile
-- sees the change of the catalog later and lets go of it.
create or replace function postrider.group_drop_partitions(ids bigint[])
returns void language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  touched bigint[] := array(
    select distinct a.group_id from assignments a
    where a.partition_id = any (ids) order by a.group_id);
  one bigint;
begin
  foreach one in array touched loop
    perform pg_advisory_xact_lock(360287970189639680 + one);
  end loop;
  delete from group_offsets o
  where o.partition_id = any (ids) and o.group_id = any (touched);
  delete from assignments a where a.partition_id = any (ids) and a.group_id = any (touched);
  foreach one in array touched loop
    perform group_next_epoch(one);
  end loop;
end
$$;
