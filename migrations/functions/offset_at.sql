-- The first offset that was appended at or after a time: the end of the log when there is none.
-- A bisection over keys: appended_at never falls inside a partition. No scan at any length.
create or replace function postrider.offset_at(of_partition bigint, at timestamptz)
returns bigint language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  low bigint := partition_low(of_partition);
  segment postrider.segments;
  lo bigint;
  hi bigint;
  mid bigint;
  batch record;
begin
  -- The newest segment that begins before that time; its messages may still all be older.
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_at < at
  order by s.first_offset desc limit 1;
  if not found then
    return low;
  end if;
  -- The newest segment outlives its bucket: what it held is gone.
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, low);
  end if;
  -- Below the low watermark rows may be gone.
  lo := greatest(segment.first_offset, low);
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    mid := lo + (hi - lo) / 2;
    execute format(
      'select base_offset, last_offset, appended_at from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, mid;
    if batch.appended_at >= at then
      hi := batch.base_offset;
    else
      -- Further than mid whatever was found: this ends.
      lo := greatest(mid, batch.last_offset) + 1;
    end if;
  end loop;
  return greatest(lo, low);
end
$$;
