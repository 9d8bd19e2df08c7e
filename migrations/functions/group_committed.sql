-- The committed offset of a partition in a group: the next one to read. Null: none yet.
create or replace function postrider.group_committed(of_partition bigint, of_group bigint)
returns bigint language sql stable
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  select o.next_offset from group_offsets o
  where o.partition_id = of_partition and o.group_id = of_group
  order by o.epoch desc, o.next_offset desc limit 1
$$;
