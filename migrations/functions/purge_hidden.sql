-- Removes rows that nobody can read any more and whose bucket will not go for long: those of a
-- deleted partition in buckets of the class that keeps for ever, and of one that stands, below
-- its low watermark, there and where its topic has a limit of bytes. At most max_rows rows from
-- from_offset on, which is where the last call ended: who starts at the beginning meets what is
-- dead and not vacuumed yet. next_offset: everything below it is gone; null: nothing is left.
--
-- The last row of a segment without an end stays: the next append goes on behind it.
create or replace function postrider.purge_hidden(
  of_partition bigint, from_offset bigint, max_rows int,
  out next_offset bigint, out removed int
) language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  part record;
  segment postrider.segments;
  until bigint;
  last bigint;
  count int;
begin
  removed := 0;
  select p.deleted_at is not null as is_deleted,
    (select t.retention_bytes from topics t where t.topic_id = p.owner_id) is not null as by_bytes
  into part from partitions p where p.partition_id = of_partition;
  if not found then
    return;
  end if;
  until := case when part.is_deleted then 9223372036854775807
    else partition_low(of_partition) end;
  for segment in
    select s.* from segments s
    where s.partition_id = of_partition and s.first_offset < until
      and (select b.state from buckets b where b.bucket_id = s.bucket_id) <> 'dropping'
      and coalesce(s.end_offset > from_offset, true)
      and (s.retention_class = 5 or part.by_bytes)
    order by s.first_offset
  loop
    last := least(until, segment.end_offset);
    if segment.end_offset is null and not part.is_deleted then
      execute format('select base_offset from postrider.batches_%s
        where partition_id = $1 order by base_offset desc limit 1', segment.bucket_id)
        into last using of_partition;
      last := least(until, last);
    end if;
    execute format(
      'delete from postrider.batches_%1$s where partition_id = $1 and base_offset = any (array(
         select base_offset from postrider.batches_%1$s
         where partition_id = $1 and base_offset >= $2 and base_offset < $3 and last_offset < $3
         order by base_offset limit $4))', segment.bucket_id)
      using of_partition, greatest(from_offset, segment.first_offset), last, max_rows - removed;
    get diagnostics count = row_count;
    removed := removed + count;
    if removed >= max_rows then
      next_offset := greatest(from_offset, segment.first_offset);
      return;
    end if;
    -- A segment without rows goes too, unless it is the one that tells where the partition goes on.
    delete from segments s
    where s.partition_id = of_partition and s.first_offset = segment.first_offset
      and (part.is_deleted or s.end_offset <= until and exists (
        select from segments newer
        where newer.partition_id = of_partition and newer.first_offset > s.first_offset));
  end loop;
  next_offset := until;
end
$$;
