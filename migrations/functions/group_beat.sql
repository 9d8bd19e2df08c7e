-- Says of many members at once that they were heard, each so many ms ago, and returns those that
-- are no members any more. A beat that is lost in a crash costs nothing: the commit is not waited
-- for. Rows are locked in order; one that somebody holds is beaten the next time.
create or replace function postrider.group_beat(numbers bigint[], ages_ms bigint[])
returns setof bigint language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  at timestamptz := clock_timestamp();
begin
  perform set_config('synchronous_commit', 'off', true);
  with heard as (
    select h.member_number, u.age from unnest(numbers, ages_ms) u (number, age)
    join member_heartbeats h on h.member_number = u.number
    order by h.member_number for update of h skip locked
  )
  update member_heartbeats h
  set seen_at = greatest(h.seen_at, at - heard.age * interval '1 millisecond')
  from heard where h.member_number = heard.member_number;
  return query select u.number from unnest(numbers) u (number)
    left join member_heartbeats h on h.member_number = u.number
    where h.member_number is null;
end
$$;
