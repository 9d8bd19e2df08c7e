-- The next rows of a shard that are to be appended, in the order of their numbers: at most
-- max_rows and about max_bytes of them, at least one if there is one. n and last_id belong to the
-- cursor they were read with.
--
-- A window is what one snapshot sees and the one before it did not, so a late commit is in the
-- next window whatever its numbers are; and since whoever waited for another transaction is seen
-- with it or after it, and drew its numbers later, order is kept inside transactions and between
-- those that waited for each other. A window is opened here and closed by outbox_append.
create or replace function postrider.outbox_next(of_shard smallint, max_rows int, max_bytes bigint)
returns table (
  n bigint, last_id bigint, outbox_id bigint, topic_id bigint, kind smallint, key bytea,
  value bytea, header_names text[], header_values bytea[], published_ms bigint)
language plpgsql
set search_path = postrider, pg_temp
set lock_timeout = '2s'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  cursor_row postrider.outbox_cursors;
  window_end pg_snapshot;
  first bigint;
  last bigint;
begin
  select * into cursor_row from outbox_cursors c
  where c.shard = of_shard order by c.n desc limit 1;
  if cursor_row.until is null then
    window_end := pg_current_snapshot();
    -- Not by way of the numbers: everything below them is appended already.
    select min(o.id), max(o.id) into first, last from (
      select o.outbox_id as id from outbox o
      where o.place between of_shard * 3 and of_shard * 3 + 2
        and o.xid >= pg_snapshot_xmax(cursor_row.seen) and o.xid < pg_snapshot_xmax(window_end)
        and pg_visible_in_snapshot(o.xid, window_end)
      union all
      select o.outbox_id from outbox o
      where o.place between of_shard * 3 and of_shard * 3 + 2
        and o.xid = any (array(select pg_snapshot_xip(cursor_row.seen)))
        and pg_visible_in_snapshot(o.xid, window_end)
      offset 0) o;
    if first is null then
      return;
    end if;
    insert into outbox_cursors (shard, n, seen, until, after_id, last_id)
    values (of_shard, cursor_row.n + 1, cursor_row.seen, window_end, first - 1, last)
    returning * into cursor_row;
  end if;
  return query
    select cursor_row.n, cursor_row.last_id, s.outbox_id, s.topic_id, s.kind, s.key, s.value,
      s.header_names, s.header_values, (extract(epoch from s.published_at) * 1000)::bigint
    from (
      select o.*, sum(100 + coalesce(octet_length(o.key), 0) + coalesce(octet_length(o.value), 0))
        over (order by o.outbox_id rows between unbounded preceding and 1 preceding) as before
      from (
        select o.* from outbox o
        where o.place between of_shard * 3 and of_shard * 3 + 2
          and o.outbox_id > cursor_row.after_id and o.outbox_id <= cursor_row.last_id
          and pg_visible_in_snapshot(o.xid, cursor_row.until)
          and not pg_visible_in_snapshot(o.xid, cursor_row.seen)
        order by o.outbox_id limit max_rows
      ) o
    ) s
    where coalesce(s.before, 0) < max_bytes
    order by s.outbox_id;
end
$$;
revoke all on function postrider.outbox_next from public;
