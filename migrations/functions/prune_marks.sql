-- Removes marks that no repeat can ask for: those below a producer's newest 64, and all marks of
-- a producer that has been silent for a day. Looks at the `most` producers behind (after_owner,
-- after_producer) and returns the last of them, from which the next call goes on; no row when
-- there were fewer, and the next call begins anew.
--
-- A producer's marks go all at once or from below: with the newest kept and one of the window
-- gone, a late repeat of that one would be appended again.
create or replace function postrider.prune_marks(
  after_owner bigint, after_producer uuid, most int
) returns table (owner_id bigint, producer_id uuid) language plpgsql
set search_path = postrider, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  producer_window constant int := 64;
  newest bigint;
  made_last timestamptz;
begin
  owner_id := after_owner;
  producer_id := after_producer;
  for _ in 1 .. most loop
    select m.owner_id, m.producer_id into owner_id, producer_id from producer_marks m
    where (m.owner_id, m.producer_id) > (prune_marks.owner_id, prune_marks.producer_id)
    order by m.owner_id, m.producer_id limit 1;
    if not found then
      return;
    end if;
    select max(w.sequence), max(w.made_at) into newest, made_last from (
      select m.sequence, m.made_at from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
      order by m.sequence desc limit producer_window) w;
    if made_last < clock_timestamp() - interval '24 hours' then
      delete from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
        and m.made_at <= made_last;
    else
      delete from producer_marks m
      where m.owner_id = prune_marks.owner_id and m.producer_id = prune_marks.producer_id
        and m.sequence <= newest - producer_window;
    end if;
  end loop;
  return next;
end
$$;
