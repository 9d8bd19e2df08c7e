-- The first batch of a partition that is not below its low watermark: a few look-ups by key,
-- however long the log is. All null when there is none.
create or replace function postrider.first_visible(
  of_partition bigint, low bigint,
  out base_offset bigint, out appended_at timestamptz, out end_bytes bigint
) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  segment postrider.segments;
begin
  select * into segment from segments s
  where s.partition_id = of_partition and s.first_offset <= low
  order by s.first_offset desc limit 1;
  while found loop
    -- The newest segment outlives its bucket: what it held is gone.
    if coalesce(segment.end_offset > low, true)
      and to_regclass('postrider.batches_' || segment.bucket_id) is not null
    then
      execute format(
        'select base_offset, appended_at, end_bytes from postrider.batches_%s
         where partition_id = $1 and base_offset >= $2 and base_offset < $3
         order by base_offset limit 1', segment.bucket_id)
        into base_offset, appended_at, end_bytes
        using of_partition, greatest(low, segment.first_offset),
          coalesce(segment.end_offset, 9223372036854775807);
      if base_offset is not null then
        return;
      end if;
    end if;
    select * into segment from segments s
    where s.partition_id = of_partition and s.first_offset > segment.first_offset
    order by s.first_offset limit 1;
  end loop;
end
$$;
