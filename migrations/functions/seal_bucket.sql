-- Seals a closed bucket: nobody can be inside any more, and every segment in it has its end.
-- The exclusive lock is tried and never waited for: a waiting lock would hold up new flushes.
-- Without it acknowledged messages were lost: a flush that began before the bucket was closed
-- could commit after the ends had been written. Segments are locked in the order of appends.
create or replace function postrider.seal_bucket(of_bucket bigint)
returns boolean language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
as $$
declare
  segment postrider.segments;
  e record;
begin
  if not pg_try_advisory_xact_lock(72057594037927936 + of_bucket) then
    return false;
  end if;
  perform 1 from buckets b where b.bucket_id = of_bucket and b.state = 'closed' for update;
  if not found then
    return false;
  end if;
  for segment in
    select * from segments s where s.bucket_id = of_bucket and s.end_offset is null
    order by s.partition_id, s.first_offset
  loop
    e := segment_end(segment);
    update segments s
    set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
    where s.partition_id = segment.partition_id and s.first_offset = segment.first_offset
      and s.end_offset is null;
  end loop;
  update buckets b set state = 'sealed', sealed_at = clock_timestamp()
  where b.bucket_id = of_bucket;
  return true;
end
$$;
