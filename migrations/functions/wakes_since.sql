-- What other nodes appended since this node looked: for each of their slots the last wake and
-- the partitions it and those before it were about.
create or replace function postrider.wakes_since(own_node bigint, slots bigint[], seen bigint[])
returns table (slot bigint, n bigint, partition_ids bigint[]) language sql stable
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  select ws.slot, max(w.n), array_agg(distinct p.id)
  from wake_slots ws
  left join unnest(slots, seen) known (slot, n) on known.slot = ws.slot
  cross join lateral (
    select w.n, w.partition_ids from wakes w
    where w.slot = ws.slot and w.n > coalesce(known.n, 0) order by w.n
  ) w
  cross join lateral unnest(w.partition_ids) p (id)
  where ws.node_id <> own_node
  group by ws.slot
$$;
