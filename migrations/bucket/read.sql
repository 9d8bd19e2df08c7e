-- Reads messages of one partition from bucket $bucket$, oldest first: whole rows from the one
-- that holds from_offset, up to until_offset (exclusive) and about max_bytes, at least one.
--
-- The last row is about the partition and has no records: base_offset is its low watermark,
-- last_offset its high one, null when the newest segment lies in another bucket. Without that
-- row the partition is gone. The low watermark is read after the rows: retention moves it before
-- it deletes anything, so a page that retention raced is known by it.
create or replace function postrider.read_$bucket$(
  of_partition bigint, from_offset bigint, until_offset bigint, max_bytes bigint
) returns table (base_offset bigint, last_offset bigint, appended_at timestamptz, records bytea)
language plpgsql
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $read$
declare
  start_offset bigint;
  start_bytes bigint;
  low bigint;
  high bigint;
  newest postrider.segments;
begin
  select b.base_offset, b.end_bytes into start_offset, start_bytes from batches_$bucket$ b
  where b.partition_id = of_partition and b.base_offset <= from_offset
  order by b.base_offset desc limit 1;
  return query
    select b.base_offset, b.last_offset, b.appended_at, b.records from batches_$bucket$ b
    where b.partition_id = of_partition and b.base_offset >= coalesce(start_offset, from_offset)
      and b.base_offset < until_offset and b.last_offset >= from_offset
      and (start_bytes is null or b.end_bytes <= start_bytes + max_bytes
        or b.base_offset = start_offset)
    order by b.base_offset;
  perform 1 from partitions p where p.partition_id = of_partition and p.deleted_at is null;
  if not found then
    return;
  end if;
  select * into newest from segments s
  where s.partition_id = of_partition order by s.first_offset desc limit 1;
  if newest.bucket_id = $bucket$ and newest.end_offset is null then
    select b.last_offset + 1 into high from batches_$bucket$ b
    where b.partition_id = of_partition order by b.base_offset desc limit 1;
    high := greatest(high, newest.first_offset);
  end if;
  low := partition_low(of_partition);
  return query select low, high, null::timestamptz, null::bytea;
end
$read$;
