-- Empties the tables of a shard in which everything is appended, but for the one that transactions
-- of this minute write to. The lock is tried and never waited for: while it is held nobody is
-- inside with a row that is not committed yet. Returns how many tables were emptied.
create or replace function postrider.outbox_empty(of_shard smallint)
returns int language plpgsql
set search_path = postrider, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  covered pg_snapshot;
  now_turn int := mod((extract(epoch from transaction_timestamp()) / 60)::bigint, 3);
  place int;
  has_rows boolean;
  emptied int := 0;
begin
  select c.seen into covered from outbox_cursors c
  where c.shard = of_shard order by c.n desc limit 1;
  for turn in 0..2 loop
    continue when turn = now_turn;
    place := of_shard * 3 + turn;
    execute format('select exists (select from postrider.outbox_%s)', place) into has_rows;
    continue when not has_rows;
    begin
      execute format('lock table only postrider.outbox_%s in access exclusive mode nowait', place);
      execute format(
        'select exists (select from postrider.outbox_%1$s where xid >= pg_snapshot_xmax($1))
           or exists (select from postrider.outbox_%1$s
             where xid = any (array(select pg_snapshot_xip($1))))', place)
        into has_rows using covered;
      if not has_rows then
        execute format('truncate only postrider.outbox_%s', place);
        emptied := emptied + 1;
      end if;
    exception when lock_not_available then
      null;
    end;
  end loop;
  return emptied;
end
$$;
revoke all on function postrider.outbox_empty from public;
