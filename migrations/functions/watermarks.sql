-- Both watermarks of a partition, whichever bucket its newest segment is in. No row: gone.
create or replace function postrider.watermarks(of_partition bigint)
returns table (low bigint, high bigint) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  newest postrider.segments;
begin
  perform 1 from partitions p where p.partition_id = of_partition and p.deleted_at is null;
  if not found then
    return;
  end if;
  select * into newest from segments s
  where s.partition_id = of_partition order by s.first_offset desc limit 1;
  high := 0;
  if found then
    high := (segment_end(newest)).end_offset;
  end if;
  low := partition_low(of_partition);
  return next;
end
$$;
