-- Gives each of these partitions a segment in this bucket, unless its newest segment is here and
-- open already. The caller holds the bucket's shared lock and the partitions' row locks.
--
-- A partition can leave a class and come back to a bucket that it was in before, where it then
-- has two segments: the newest is the one with the highest first_offset. Bucket ids compare only
-- within a class. Returns the partitions whose newest segment lies in a newer bucket of the same
-- class: the caller's view of the open bucket is stale, and nothing may be appended.
create or replace function postrider.enter_bucket(
  ids bigint[], this_bucket bigint, this_class smallint
) returns setof bigint language plpgsql
set search_path = postrider, pg_temp
as $$
declare
  id bigint;
  newest postrider.segments;
  e record;
begin
  foreach id in array ids loop
    select * into newest from segments s
    where s.partition_id = id order by s.first_offset desc limit 1;
    if not found then
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, 0, this_bucket, this_class, 0, clock_timestamp());
      continue;
    end if;
    if newest.bucket_id = this_bucket and newest.end_offset is null then
      continue;
    end if;
    if newest.retention_class = this_class and newest.bucket_id >= this_bucket then
      return next id;
      continue;
    end if;
    e := segment_end(newest);
    if e.end_offset = newest.first_offset then
      -- An empty segment (its append was refused later) moves, since its key would be the same.
      update segments s
      set bucket_id = this_bucket, retention_class = this_class,
        end_offset = null, end_bytes = null, end_at = null
      where s.partition_id = id and s.first_offset = newest.first_offset;
    else
      update segments s
      set end_offset = e.end_offset, end_bytes = e.end_bytes, end_at = e.end_at
      where s.partition_id = id and s.first_offset = newest.first_offset and s.end_offset is null;
      insert into segments
        (partition_id, first_offset, bucket_id, retention_class, first_bytes, first_at)
      values (id, e.end_offset, this_bucket, this_class, e.end_bytes, e.end_at);
    end if;
  end loop;
end
$$;
