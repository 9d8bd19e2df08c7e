-- The base of the batch that holds a byte, counted over all that a partition ever took in: the
-- end of the log when it is not reached. A bisection over keys as in offset_at: end_bytes rises.
create or replace function postrider.offset_of_bytes(of_partition bigint, byte bigint)
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
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_bytes <= byte
  order by s.first_offset desc limit 1;
  if not found then
    return low;
  end if;
  if to_regclass('postrider.batches_' || segment.bucket_id) is null then
    return greatest(segment.end_offset, low);
  end if;
  lo := greatest(segment.first_offset, low);
  hi := (segment_end(segment)).end_offset;
  while lo < hi loop
    mid := lo + (hi - lo) / 2;
    execute format(
      'select base_offset, last_offset, end_bytes from postrider.batches_%s
       where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
      segment.bucket_id)
      into batch using of_partition, mid;
    if batch.end_bytes > byte then
      hi := batch.base_offset;
    else
      -- Further than mid whatever was found: this ends.
      lo := greatest(mid, batch.last_offset) + 1;
    end if;
  end loop;
  return greatest(lo, low);
end
$$;
