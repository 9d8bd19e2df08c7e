-- The first of three steps in which a bucket goes: low watermarks move past it, then it may be
-- detached. A bucket may go when its sealing is longer ago than the longest limit that any
-- partition with a segment in it has now; partitions of deleted owners have none. Returns false
-- when it may not go yet.
create or replace function postrider.begin_drop(of_bucket bigint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
begin
  -- Shared with the catalog: a longer limit that was acknowledged counts.
  perform pg_advisory_xact_lock_shared(216172782113783808);
  perform 1 from buckets b
  where b.bucket_id = of_bucket and b.state = 'sealed'
    and not exists (
      select from segments s
      join partitions p on p.partition_id = s.partition_id and p.deleted_at is null
      left join topics t on t.topic_id = p.owner_id
      where s.bucket_id = b.bucket_id
        and (t.retention_ms is null
          or b.sealed_at + least(t.retention_ms, 3155760000000) * interval '1 millisecond'
            > clock_timestamp()))
  for update;
  if not found then
    return false;
  end if;
  insert into partition_lows (partition_id, low_offset)
  select s.partition_id, max(s.end_offset) from segments s
  where s.bucket_id = of_bucket group by s.partition_id
  order by s.partition_id
  on conflict do nothing;
  -- Nodes that remember the old watermark look again. Slot 0 is maintenance's: drops come one at
  -- a time, from the node that holds the duty.
  insert into wakes (slot, n, partition_ids)
  select 0, 1 + coalesce((select max(w.n) from wakes w where w.slot = 0), 0),
    array_agg(distinct s.partition_id)
  from segments s where s.bucket_id = of_bucket having count(*) > 0;
  update buckets b set state = 'dropping' where b.bucket_id = of_bucket;
  return true;
end
$$;
