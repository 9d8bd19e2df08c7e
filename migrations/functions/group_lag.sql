-- How far a group is behind in each of its partitions: the committed offset, both watermarks, and
-- for how long the first message that is not committed has been there (null: there is none). Of
-- what retention took nothing is owed any more.
create or replace function postrider.group_lag(of_group bigint)
returns table (
  partition_id bigint, topic text, index int, member_id text, epoch bigint, is_revoked boolean,
  committed bigint, low bigint, high bigint, lag_ms bigint
) language plpgsql stable
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  segment postrider.segments;
  first_at timestamptz;
begin
  for partition_id, topic, index, member_id, epoch, is_revoked, committed, low, high in
    select a.partition_id, a.topic, a.index, a.member_id, a.epoch, a.revoke_deadline is not null,
      group_committed(a.partition_id, of_group), w.low, w.high
    from assignments a cross join lateral watermarks(a.partition_id) w
    where a.group_id = of_group order by a.topic, a.index
  loop
    lag_ms := null;
    if greatest(committed, low) < high then
      first_at := null;
      select * into segment from segments s
      where s.partition_id = group_lag.partition_id
        and s.first_offset <= greatest(group_lag.committed, group_lag.low)
      order by s.first_offset desc limit 1;
      if found and to_regclass('postrider.batches_' || segment.bucket_id) is not null then
        execute format(
          'select appended_at from postrider.batches_%s
           where partition_id = $1 and base_offset <= $2 order by base_offset desc limit 1',
          segment.bucket_id)
          into first_at using group_lag.partition_id, greatest(committed, low);
      end if;
      lag_ms := greatest(0, extract(epoch from clock_timestamp() - first_at) * 1000)::bigint;
    end if;
    return next;
  end loop;
end
$$;
